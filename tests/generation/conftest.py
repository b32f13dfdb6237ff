"""Two policies for the engine tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.generation.tiny import LearnerView, perturbed


@pytest.fixture(scope="module")
def old(tiny_model_dir: Path) -> LearnerView:
    """Weights of a policy flat enough to end its responses at varied lengths."""
    return LearnerView(tiny_model_dir, perturbed(0.3, seed=1, head=0.15))


@pytest.fixture(scope="module")
def new(tiny_model_dir: Path) -> LearnerView:
    """Weights clearly distinguishable from `old`."""
    return LearnerView(tiny_model_dir, perturbed(0.3, seed=2, head=0.15))
