"""Seeds of strict runs, and what a strict configuration refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from trainer.config.load import validate_config
from trainer.determinism import compute_environment, rollout_seed
from trainer.errors import ScopeError


def test_a_seed_follows_from_the_runs_seed_the_group_and_the_index_for_ever() -> None:
    """Pinned: changing these seeds would change every strict run."""
    assert rollout_seed(1, "base:0", 0) == 1846661901438875765
    assert rollout_seed(1, "adaptive:7", 3) == 377664915938103339
    assert rollout_seed(2, "base:0", 0) == 692382909142712625


def test_no_two_rollouts_share_a_seed() -> None:
    names = [f"{role}:{ordinal}" for role in ("base", "adaptive") for ordinal in range(300)]
    seeds = {rollout_seed(run, name, i) for run in (0, 1, 12) for name in names for i in range(20)}
    assert len(seeds) == 3 * 600 * 20
    assert 0 <= min(seeds) < 1 << 58 < max(seeds) < 1 << 62


@pytest.mark.parametrize(
    ("block", "change", "said"),
    [
        ("pipeline", {"max_staleness": 1}, "pipeline.max_staleness=1 is not allowed"),
        ("generators", {"base": 2}, "generators.base=2 is not allowed"),
        ("generators", {"adaptive": 3}, "generators.adaptive=3 is not allowed"),
    ],
)
def test_strict_names_what_it_cannot_be_combined_with(block: str, change: dict[str, int], said: str) -> None:
    tree: dict[str, Any] = {"determinism": {"strict": True}, "pipeline": {"max_staleness": 0}}
    assert validate_config(tree).determinism.strict
    tree[block] = tree.get(block, {}) | change
    only = 0 if block == "pipeline" else 1
    with pytest.raises(ScopeError, match=f"{said} with determinism.strict=true, only {only}: "):
        validate_config(tree)
    validate_config(tree | {"determinism": {"strict": False}})


def test_strict_asks_for_no_adaptive_generator_where_no_control_uses_one() -> None:
    tree = {
        "determinism": {"strict": True},
        "pipeline": {"max_staleness": 0},
        "generators": {"adaptive": 0},
        "entropy_control": {"kind": "none"},
    }
    assert validate_config(tree).roles == ("base",)


@pytest.mark.parametrize("strict", [True, False])
def test_a_strict_process_refuses_arithmetic_without_a_fixed_order(strict: bool) -> None:
    """On the CPU torch has no deterministic `put_` without accumulation."""
    code = (
        "import torch\n"
        "from trainer.determinism import use_deterministic_algorithms\n"
        f"if {strict}: use_deterministic_algorithms()\n"
        "torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)\n"
    )
    environment = os.environ | compute_environment(strict=strict)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode == 0) is not strict, done.stderr
    assert ("deterministic" in done.stderr) is strict
