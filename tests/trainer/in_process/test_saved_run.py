"""A saved in-process run continues as if it had not been interrupted, bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.generation.tiny import tiny_config
from trainer.config import RunConfig
from trainer.in_process.run import InProcessRun
from trainer.in_process.saved_state import read_state

pytestmark = pytest.mark.timeout(300)

STEPS, SAVED_AT = 5, 3
SECONDS = {"sample_seconds", "learn_seconds"}


def config(**blocks: dict[str, object]) -> RunConfig:
    """Five steps at staleness 2, so that rollouts are sampled ahead, with an update large enough to matter."""
    defaults: dict[str, dict[str, object]] = {
        "pipeline": {"max_staleness": 2},
        "optimizer": {"learning_rate": 1e-3},
        "entropy_control": {"target": "auto", "auto_fraction": 0.8},
    }
    return tiny_config(**(defaults | blocks)).model_copy(update={"steps": STEPS})


def recorded(run: InProcessRun, steps: int) -> list[dict[str, Any]]:
    """The next steps without their times."""
    found = []
    for step in run.steps():
        found.append({name: value for name, value in asdict(step).items() if name not in SECONDS})
        if len(found) == steps:
            break
    return found


def weights(run: InProcessRun) -> dict[str, torch.Tensor]:
    """The policy's weights, copied."""
    gathered = run._learner.gather_weights()
    assert gathered is not None
    return {name: tensor.clone() for name, tensor in gathered.items()}


MIXTURE: dict[str, object] = {
    "name": "mixture",
    "mixture": [{"name": "countdown", "max_number": 6, "max_target": 40, "heldout": 16} for _ in range(2)],
    "curriculum": {"kind": "pass_rate"},
}


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param({}, id="split_range"),
        pytest.param(
            {
                "regularizer": {"kind": "adaptive_coefficient"},
                "entropy_control": {"kind": "none", "target": 0.5},
            },
            id="adaptive_coefficient",
        ),
        pytest.param({"learner": {"precision": "bf16"}}, id="bfloat16"),
        pytest.param({"task": MIXTURE}, id="curriculum"),
    ],
)
def test_a_run_continued_from_a_save_equals_the_uninterrupted_one(
    blocks: dict[str, dict[str, object]], tiny_model_dir: Path, tmp_path: Path
) -> None:
    whole = InProcessRun(config(**blocks), tiny_model_dir)
    before = recorded(whole, SAVED_AT)
    whole.save(tmp_path / "saved")
    after = recorded(whole, STEPS)
    evaluation = whole.evaluate(STEPS)
    resumed = InProcessRun(config(**blocks), tiny_model_dir)
    resumed.resume(tmp_path / "saved")
    assert resumed.step == SAVED_AT
    assert len(read_state(tmp_path / "saved").ahead) == STEPS - SAVED_AT
    assert [step["step"] for step in before + after] == list(range(STEPS))
    assert recorded(resumed, STEPS) == after
    assert resumed.evaluate(STEPS) == evaluation
    theirs = weights(resumed)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(whole).items())
