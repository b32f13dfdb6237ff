"""The learner on real DeepSpeed engines in real processes over gloo, against plain PyTorch in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.distributed.learner_ranks import PLACES, launch, result, weights, write_groups
from tests.support.distributed.plain_learner import (
    ALPHA,
    CONTROLS,
    EXPONENT,
    OPTIMIZER,
    PROMPTS,
    STEPS,
    Control,
    any_length,
    configuration,
    lopsided_length,
    make_groups,
    plain_training,
)
from trainer.rollouts.trajectory import Group


@pytest.fixture(scope="module")
def off_policy_groups(model_dir: Path) -> list[Group]:
    """Stale rollouts, with one group missing."""
    groups = make_groups(model_dir, noise=0.5, lengths=any_length)
    return [g for g in groups if (g.role, g.ordinal) != ("adaptive", PROMPTS + 3)]


@pytest.fixture(scope="module", params=PLACES)
def runs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    model_dir: Path,
    off_policy_groups: list[Group],
) -> Path:
    """All cases, on one rank, on two, and on a GPU."""
    world, backend = request.param
    work = tmp_path_factory.mktemp(f"{backend}{world}")
    stale = write_groups(work / "stale.bin", off_policy_groups)
    fresh = write_groups(work / "fresh.bin", make_groups(model_dir, noise=0.0, lengths=any_length))
    lopsided = write_groups(work / "lopsided.bin", make_groups(model_dir, noise=0.5, lengths=lopsided_length))
    still = {"optimizer": {"learning_rate": 0.0}}
    low = {"learner": {"precision": "bf16"}}
    tokens = {"learner": {"micro_batching": "tokens"}}
    frugal = {"learner": tokens["learner"] | {"fused_head": "on", "gradient_checkpointing": True}}

    def case(name: str, stage: int, groups: str, **changes: Any) -> dict[str, Any]:
        keeps = changes.pop("continue_", False)
        control = changes.get("control") or Control()
        config = configuration(world, stage, **changes)
        return {
            "name": name,
            "config": config,
            "groups": groups,
            "steps": 1 if control.kind != "none" else STEPS,
            "alpha": ALPHA,
            "surprisal_exponent": EXPONENT,
            "strength": control.strength,
            "continue": keeps,
            "buckets": keeps,
        }

    cases = [case(f"stage{stage}", stage, stale, continue_=True) for stage in (1, 2, 3)]
    cases += [case("frugal", 3, stale, **frugal), case("tokens-lopsided", 3, lopsided, **tokens)]
    cases += [case("lopsided", 3, lopsided), case("bf16", 2, stale, **low), case("canary", 2, fresh, **still)]
    if world > 1:
        cases += [case(name, control.stage, stale, control=control) for name, control in CONTROLS.items()]
    return launch(work, world, model_dir, cases, backend)


@pytest.fixture(scope="module")
def plain(
    model_dir: Path, off_policy_groups: list[Group]
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    return plain_training(model_dir, off_policy_groups)


@pytest.fixture(scope="module")
def lopsided_weights(model_dir: Path) -> dict[str, torch.Tensor]:
    return plain_training(model_dir, make_groups(model_dir, noise=0.5, lengths=lopsided_length))[1]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_weights_are_the_same_gathered_in_small_buckets(runs: Path, stage: int) -> None:
    assert result(runs, f"stage{stage}")["same_in_buckets"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_zero_stage_trains_like_a_plain_loop(runs: Path, plain: Any, stage: int) -> None:
    records, expected = plain
    assert records[0]["gradient_norm"] > OPTIMIZER["gradient_clip"], "the case must exercise clipping"
    metrics = result(runs, f"stage{stage}")["metrics"]
    for got, want in zip(metrics, records, strict=True):
        for name, value in want.items():
            assert got[name] == pytest.approx(value, rel=2e-5, abs=2e-6), name
    trained = weights(runs, f"stage{stage}")
    assert trained.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(trained[name].double(), value, rtol=1e-5, atol=3e-6)


def test_token_budgets_fused_head_and_checkpointed_layers_change_memory_and_nothing_else(
    runs: Path, plain: Any, lopsided_weights: Any
) -> None:
    """Micro-batches with a token budget under ZeRO-3, with ranks that would need different numbers of them."""
    records, expected = plain
    metrics, usual = (result(runs, name)["metrics"] for name in ("frugal", "stage3"))
    for got, want in zip(metrics, records, strict=True):
        for name, value in want.items():
            assert got[name] == pytest.approx(value, rel=2e-5, abs=2e-6), name
    for case, weights_of in (("frugal", expected), ("tokens-lopsided", lopsided_weights)):
        trained = weights(runs, case)
        for name, value in weights_of.items():
            torch.testing.assert_close(trained[name].double(), value, rtol=1e-5, atol=3e-6)
    assert metrics[0]["padding_share"] < usual[0]["padding_share"]
    assert 1 <= metrics[0]["token_imbalance"] <= usual[0]["token_imbalance"]


@pytest.fixture(scope="module")
def plain_controls(model_dir: Path, off_policy_groups: list[Group]) -> dict[str, Any]:
    controls = {"grpo": Control(), **CONTROLS}
    return {
        name: plain_training(model_dir, off_policy_groups, control, steps=1)
        for name, control in controls.items()
    }


@pytest.mark.parametrize("runs", [(2, "gloo")], indirect=True, ids=["two ranks"])
@pytest.mark.parametrize("name", CONTROLS)
def test_every_rival_control_trains_like_a_plain_loop(
    runs: Path, plain_controls: dict[str, Any], name: str
) -> None:
    """Statistics of the step cover both ranks and all micro-batches."""
    records, expected = plain_controls[name]
    for got, want in zip(result(runs, name)["metrics"], records, strict=True):
        for number, value in want.items():
            assert got[number] == pytest.approx(value, rel=2e-5, abs=2e-6), number
    trained = weights(runs, name)
    for tensor, value in expected.items():
        torch.testing.assert_close(trained[tensor].double(), value, rtol=1e-5, atol=3e-6)
    grpo = plain_controls["grpo"][1]
    moved = max(float((grpo[tensor] - value).abs().max()) for tensor, value in expected.items())
    assert moved > 1e-4, "the case must differ from GRPO"


def test_metrics_are_those_of_the_whole_batch_and_finite(runs: Path, off_policy_groups: list[Group]) -> None:
    metrics = result(runs, "stage2")["metrics"][0]
    by_role = {
        r: [t for g in off_policy_groups if g.role == r for t in g.trajectories] for r in ("base", "adaptive")
    }
    everything = by_role["base"] + by_role["adaptive"]
    behaviour = sum(float((t.logprobs * t.mask).sum()) for t in by_role["base"])
    base_tokens = sum(int(t.mask.sum()) for t in by_role["base"])
    assert metrics.pop("reference_kl") is None, "no reference policy was configured"
    assert all(math.isfinite(v) for v in metrics.values()), metrics
    assert metrics["tokens"] == sum(int(t.mask.sum()) for t in everything)
    assert metrics["positives"] == sum(t.reward == 1 for t in by_role["adaptive"]) > 0
    assert metrics["reward_base"] == pytest.approx(np.mean([t.reward for t in by_role["base"]]))
    assert metrics["reward_adaptive"] == pytest.approx(np.mean([t.reward for t in by_role["adaptive"]]))
    assert metrics["generator_entropy"] == pytest.approx(-behaviour / base_tokens, rel=1e-5)
    assert metrics["mismatch_kl_base"] > 0.05
    assert metrics["clamped_tokens"] == 0


def test_ranks_report_the_same_metrics(runs: Path) -> None:
    files = sorted(runs.glob("stage2-?.json"))
    seconds = ("proximal_seconds", "update_seconds")
    records = [json.loads(file.read_text())["metrics"] for file in files]
    shared = [[{k: v for k, v in step.items() if k not in seconds} for step in record] for record in records]
    assert len(files) == result(runs, "stage2")["world_size"]
    assert all(record == shared[0] for record in shared)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_ranks_share_the_optimizer_state_out(runs: Path, plain: Any, stage: int) -> None:
    world = result(runs, f"stage{stage}")["world_size"]
    whole = sum(2 * 4 * value.numel() for value in plain[1].values())
    for rank in range(world):
        held = result(runs, f"stage{stage}", rank)["optimizer_bytes"]
        assert held == pytest.approx(whole / world, rel=0.01)


def test_ranks_with_very_different_token_counts_agree(
    runs: Path, lopsided_weights: dict[str, torch.Tensor]
) -> None:
    """All ranks must gather the head equally often, whatever their share of the tokens."""
    trained = weights(runs, "lopsided")
    for name, value in lopsided_weights.items():
        torch.testing.assert_close(trained[name].double(), value, rtol=1e-5, atol=3e-6)


def test_bf16_stays_near_fp32(runs: Path, plain: Any) -> None:
    records, expected = plain
    for got, want in zip(result(runs, "bf16")["metrics"], records, strict=True):
        assert got["entropy"] == pytest.approx(want["entropy"], rel=0.02)
        assert got["surrogate"] == pytest.approx(want["surrogate"], abs=0.05)
        assert got["gradient_norm"] == pytest.approx(want["gradient_norm"], rel=0.1)
    trained = weights(runs, "bf16")
    for name, value in expected.items():
        assert trained[name].dtype == torch.bfloat16
        assert (trained[name].double() - value).norm() < 0.02 * value.norm(), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_restored_engine_continues_bit_for_bit(runs: Path, stage: int) -> None:
    seconds = ("proximal_seconds", "update_seconds")
    record = result(runs, f"stage{stage}")
    continued, restored = (
        [{k: v for k, v in step.items() if k not in seconds} for step in record[name]]
        for name in ("continued", "restored")
    )
    assert continued == restored
    assert continued[0]["entropy"] != record["metrics"][0]["entropy"]
    one, other = weights(runs, f"stage{stage}-continued"), weights(runs, f"stage{stage}-restored")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_learning_rate_zero_moves_nothing_and_every_ratio_is_one(runs: Path, model_dir: Path) -> None:
    before = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).state_dict()
    after = weights(runs, "canary")
    assert all(torch.equal(after[name], before[name]) for name in after)
    for metrics in result(runs, "canary")["metrics"]:
        assert metrics["gradient_norm"] > 0
        for role in ("base", "adaptive"):
            assert metrics[f"ratio_deviation_{role}"] < 1e-4
            assert metrics[f"mismatch_kl_{role}"] < 1e-8


def test_joining_the_process_group_compiles_nothing(runs: Path) -> None:
    assert not any("built successfully" in log.read_text() for log in runs.glob("rank-*.log"))
