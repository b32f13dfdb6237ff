"""Checkpoints resume with another number of learner ranks and another ZeRO stage, on real DeepSpeed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.distributed.learner_ranks import launch, result, weights, write_groups
from tests.support.distributed.plain_learner import (
    ALPHA,
    EXPONENT,
    STEPS,
    any_length,
    configuration,
    make_groups,
)
from trainer.checkpoint.universal import to_universal

STAGES = (1, 2, 3)


def case(name: str, world: int, stage: int, groups: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "config": configuration(world, stage),
        "groups": groups,
        "alpha": ALPHA,
        "surprisal_exponent": EXPONENT,
        "strength": 0.0,
        **more,
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """At each stage, two ranks learn two steps, save, and learn one more."""
    work = tmp_path_factory.mktemp("two-ranks")
    groups = write_groups(work / "groups.bin", make_groups(model_dir, noise=0.5, lengths=any_length))
    cases = [case(f"stage{s}", 2, s, groups, steps=STEPS, **{"continue": True}) for s in STAGES]
    launch(work, 2, model_dir, cases)
    for stage in STAGES:
        to_universal(work / f"stage{stage}" / "kept", work / f"stage{stage}" / "universal")
    return work


@pytest.fixture(scope="module")
def reshaped(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, kept: Path) -> Path:
    """One rank continues from each of the checkpoints, at each stage."""
    work = tmp_path_factory.mktemp("one-rank")
    cases = [
        case(
            f"{before}-{after}",
            1,
            after,
            str(kept / "groups.bin"),
            steps=1,
            first=STEPS,
            **{"from": str(kept / f"stage{before}")},
        )
        for before in STAGES
        for after in STAGES
    ]
    return launch(work, 1, model_dir, cases)


@pytest.mark.parametrize("after", STAGES)
@pytest.mark.parametrize("before", STAGES)
def test_one_rank_of_any_stage_goes_on_from_two_of_any_stage(
    kept: Path, reshaped: Path, before: int, after: int
) -> None:
    """Losses, gradient and update are equal: weights, moments and step count were restored."""
    wanted, got = (
        result(kept, f"stage{before}")["continued"][0],
        result(reshaped, f"{before}-{after}")["metrics"][0],
    )
    for name in ("entropy", "surrogate", "auxiliary", "gradient_norm"):
        assert got[name] == pytest.approx(wanted[name], rel=2e-5, abs=2e-6), name
    expected, actual = (
        weights(kept, f"stage{before}-continued"),
        weights(reshaped, f"{before}-{after}"),
    )
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-5, atol=3e-6)
