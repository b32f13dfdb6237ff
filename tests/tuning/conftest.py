"""A small search in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.tuning.plan import Search, make_search
from tests.support.repository import QUICKSTART


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Eight steps, evaluated every two, one seed, metric pass@1."""
    return make_search(
        QUICKSTART,
        space=["entropy_control.target=0.1:0.9"],
        metric="pass@1",
        trials=6,
        settings=["steps=8"],
        samples=4,
        evaluate_every=2,
        out=tmp_path / "out",
    )
