"""The learner on real DeepSpeed engines in real processes over gloo, against plain PyTorch in float64."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from reference import (
    Objective,
    Rollouts,
    Shape,
    base_tokens,
    chosen_logprobs,
    clip_cov_candidates,
    dcpo,
    entropy,
    entropy_advantage,
    group_advantages,
    kl_cov,
    loss_and_gradient,
    plain_shape,
    row_weights,
)
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from trainer.trajectory import Group, Role, Trajectory, VersionSpan, encode_group

VOCABULARY, PROMPTS, SAMPLES, MINIBATCHES = 24, 6, 4, 2
STEPS, ALPHA, EXPONENT, BASE_TEMPERATURE, BUDGET = 2, 0.7, 1.5, 0.7, 16
OPTIMIZER = {
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "epsilon": 1e-3,  # large: Adam would turn the sign of a rounding error into a full step
    "gradient_clip": 0.05,
}


@dataclass(frozen=True)
class Control:
    """A rival control as the learner is told of it: kind, fields of its block, strength, and an aggregation."""

    kind: str = "none"
    fields: dict[str, float] = field(default_factory=dict)
    strength: float = 0.0
    aggregation: str = "sequence_mean"
    stage: int = 2

    def shape(self, rollouts: Rollouts, logits: np.ndarray, proximal: np.ndarray) -> Shape:
        """What the reference makes of it."""
        plain = plain_shape(rollouts)
        match self.kind:
            case "entropy_bonus":
                return replace(plain, bonus=self.strength)
            case "clip_higher":
                return replace(plain, clip=(self.fields["low"], self.strength))
            case "clip_cov":
                for place in clip_cov_candidates(
                    rollouts, proximal, self.fields["lower"], self.fields["upper"]
                ):
                    plain.keep[place] = 0
            case "kl_cov":
                count = int(self.fields["ratio"] * len(base_tokens(rollouts)))
                return kl_cov(rollouts, proximal, count, self.strength)
            case "entropy_advantage":
                return entropy_advantage(rollouts, entropy(logits), self.strength, self.fields["kappa"])
            case "dcpo":
                hot = self.fields["t_hot"] * rollouts.temperature
                tilted = chosen_logprobs(logits, rollouts.targets, rollouts.mask, hot)
                return dcpo(rollouts, proximal, tilted, self.strength)
        return plain


CONTROLS = {
    "bonus": Control("entropy_bonus", strength=0.1, stage=3),
    "clip-higher": Control("clip_higher", {"low": 0.02, "high": 0.05}, strength=0.05, aggregation="dr_grpo"),
    "clip-cov": Control("clip_cov", {"ratio": 1.0, "lower": -0.5, "upper": 0.5}, strength=1.0),
    "kl-cov": Control("kl_cov", {"ratio": 0.3, "coefficient": 0.7}, strength=0.7),
    "advantage": Control(
        "entropy_advantage", {"alpha": 0.4, "kappa": 2.0}, strength=0.4, aggregation="token_mean"
    ),
    "dcpo": Control("dcpo", {"t_hot": 1.4}, strength=0.1, stage=3),
}


def configuration(workers: int, stage: int, control: Control | None = None, **changes: Any) -> dict[str, Any]:
    """Small micro-batches and logit chunks, so that every step takes several of both."""
    control = control or Control()
    learner = {"workers": workers, "zero_stage": stage, "micro_batch_tokens": 64, "logit_chunk_tokens": 16}
    return {
        "rollout": {
            "prompts_per_step": PROMPTS,
            "base_samples": SAMPLES,
            "adaptive_samples": SAMPLES,
            "max_new_tokens": BUDGET,
        },
        "loss": {"minibatches": MINIBATCHES, "aggregation": control.aggregation},
        "regularizer": {"kind": control.kind, **({control.kind: control.fields} if control.fields else {})},
        "optimizer": OPTIMIZER | changes.get("optimizer", {}),
        "learner": learner | changes.get("learner", {}),
    }


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer model of width 64 with random weights."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


def response_logits(model: torch.nn.Module, prompt: np.ndarray, tokens: np.ndarray) -> torch.Tensor:
    """Logits of each response token given what precedes it, one sequence at a time. -> [T, V]."""
    ids = torch.from_numpy(np.concatenate([prompt, tokens]).astype(np.int64))
    return model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]


def make_groups(
    model_dir: Path, *, noise: float, lengths: Callable[[int, np.random.Generator], int]
) -> list[Group]:
    """Random rollouts with the model's own log-probabilities plus Gaussian `noise` as their behaviour."""
    rng = np.random.default_rng(11)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    groups = []
    roles: tuple[Role, Role] = ("base", "adaptive")
    for ordinal in range(PROMPTS, 2 * PROMPTS):  # the second step's ordinals
        prompt = rng.integers(0, VOCABULARY, rng.integers(4, 9)).astype("<i4")
        for role in roles:
            temperature = BASE_TEMPERATURE if role == "base" else 1.0
            trajectories = []
            for index in range(SAMPLES):
                length = lengths(ordinal - PROMPTS, rng)
                tokens = rng.integers(0, VOCABULARY, length).astype("<i4")
                with torch.no_grad():
                    logits = response_logits(model, prompt, tokens).numpy()
                targets, full = tokens[None].astype(np.int64), np.ones((1, length))
                own = chosen_logprobs(logits[None], targets, full, np.array([temperature]))[0]
                behaviour = np.minimum(own + noise * rng.normal(size=length), 0.0)
                mask = np.ones(length, "u1")
                if noise and index == 0 and length > 2:
                    mask[1], behaviour[1] = (
                        0,
                        -120.0,
                    )  # a token that is not learned from, impossible to the sampler
                trajectories.append(
                    Trajectory(
                        group_index=index,
                        response_tokens=tokens.tobytes(),
                        behaviour_logprobs=behaviour.astype("<f4").tobytes(),
                        loss_mask=mask.tobytes(),
                        logprob_temperature=temperature,
                        versions=[VersionSpan(0, 0, 0)],
                        reward=float(rng.random() < 0.4),
                        reward_components={},
                        verdict="",
                        finish_reason="stop",
                    )
                )
            groups.append(
                Group(
                    run_id="r",
                    task="t",
                    problem_id=str(ordinal),
                    role=role,
                    ordinal=ordinal,
                    sampling_temperature=temperature,
                    set_point_generation=1,
                    prompt_tokens=prompt.tobytes(),
                    producer_id="p",
                    producer_sequence=ordinal,
                    started_at=0.0,
                    finished_at=0.0,
                    trajectories=trajectories,
                )
            )
    return groups


def any_length(_slot: int, rng: np.random.Generator) -> int:
    return int(rng.integers(3, 10))


def lopsided_length(slot: int, _rng: np.random.Generator) -> int:
    """With two minibatches and two ranks, slots 0, 1, 4 and 5 are rank 0's: all its answers are long."""
    return 12 if (slot // MINIBATCHES) % 2 == 0 else 1


@pytest.fixture(scope="module")
def off_policy_groups(model_dir: Path) -> list[Group]:
    """Stale rollouts, one group of them missing."""
    groups = make_groups(model_dir, noise=0.5, lengths=any_length)
    return [g for g in groups if (g.role, g.ordinal) != ("adaptive", PROMPTS + 3)]


def write_groups(path: Path, groups: list[Group]) -> str:
    entries = [encode_group(group, size_cap=1 << 24) for group in groups]
    path.write_bytes(b"".join(len(e).to_bytes(8, "little") + e for e in entries))
    return str(path)


def launch(work: Path, world_size: int, model_dir: Path, cases: list[dict[str, Any]]) -> Path:
    """Run the cases on `world_size` ranks; the files they wrote are in `work`."""
    job = work / "job.json"
    job.write_text(json.dumps({"model": str(model_dir), "work": str(work), "cases": cases}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    for rank in range(world_size):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with (work / f"rank-{rank}.log").open("wb") as log:
            command = [sys.executable, str(Path(__file__).with_name("learner_rank.py")), str(job)]
            ranks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    deadline = time.monotonic() + 240
    try:  # a rank that fails leaves the others waiting for it
        while any(r.poll() is None for r in ranks) and not any(r.poll() for r in ranks):
            assert time.monotonic() < deadline, "the ranks wait for each other"
            time.sleep(0.1)
        codes = [rank.poll() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    logs = "\n".join((work / f"rank-{rank}.log").read_text()[-3000:] for rank in range(world_size))
    assert codes == [0] * world_size, logs
    return work


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def runs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    model_dir: Path,
    off_policy_groups: list[Group],
) -> Path:
    """Every case, on one rank and on two."""
    world = request.param
    work = tmp_path_factory.mktemp(f"world{world}")
    stale = write_groups(work / "stale.bin", off_policy_groups)
    fresh = write_groups(work / "fresh.bin", make_groups(model_dir, noise=0.0, lengths=any_length))
    lopsided = write_groups(work / "lopsided.bin", make_groups(model_dir, noise=0.5, lengths=lopsided_length))
    still = {"optimizer": {"learning_rate": 0.0}}
    low = {"learner": {"precision": "bf16"}}

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
        }

    cases = [case(f"stage{stage}", stage, stale, continue_=True) for stage in (1, 2, 3)]
    cases += [case("lopsided", 3, lopsided), case("bf16", 2, stale, **low), case("canary", 2, fresh, **still)]
    if world > 1:
        cases += [case(name, control.stage, stale, control=control) for name, control in CONTROLS.items()]
    return launch(work, world, model_dir, cases)


def result(runs: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((runs / f"{name}-{rank}.json").read_text())


def weights(runs: Path, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(runs / f"{name}.safetensors")


def plain_training(
    model_dir: Path, groups: list[Group], control: Control | None = None, steps: int = STEPS
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """The same steps with one float64 model, one sequence at a time, torch's AdamW and the NumPy gradient."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    control = control or Control()
    objective = Objective(alpha=ALPHA, rho=EXPONENT, aggregation=control.aggregation, budget=BUDGET)
    standardized = control.aggregation != "dr_grpo"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=1.0,
        betas=(0.9, 0.99),
        eps=OPTIMIZER["epsilon"],
        weight_decay=OPTIMIZER["weight_decay"],
    )
    slots = [g.ordinal % PROMPTS for g in groups for _ in g.trajectories]
    sequences = [(g.prompt, t.tokens) for g in groups for t in g.trajectories]
    trajectories = [t for g in groups for t in g.trajectories]
    width = max(len(t.tokens) for t in trajectories)

    def padded(values: list[np.ndarray], kind: type) -> np.ndarray:
        out = np.zeros((len(values), width), kind)
        for row, value in zip(out, values, strict=True):
            row[: len(value)] = value
        return out

    rollouts = Rollouts(
        targets=padded([t.tokens for t in trajectories], np.int64),
        mask=padded([t.mask for t in trajectories], np.float64),
        temperature=np.array([t.logprob_temperature for t in trajectories]),
        behaviour=padded([t.logprobs for t in trajectories], np.float64),
        rewards=np.array([t.reward for t in trajectories]),
        advantages=np.concatenate(
            [
                group_advantages(
                    np.array([t.reward for t in g.trajectories]), 1e-6, standardized=standardized
                )
                for g in groups
            ]
        ),
        auxiliary=np.array([g.role == "adaptive" for g in groups for _ in g.trajectories]),
    )

    def forward(rows: list[int]) -> torch.Tensor:
        parts = [response_logits(model, *sequences[i]) for i in rows]
        return torch.stack([torch.nn.functional.pad(p, (0, 0, 0, width - len(p))) for p in parts])

    everything = list(range(len(trajectories)))
    records = []
    for step in range(steps):
        with torch.no_grad():
            logits = forward(everything).numpy()
        proximal = chosen_logprobs(logits, rollouts.targets, rollouts.mask, rollouts.temperature)
        shares = row_weights(rollouts, proximal, objective)
        shape = control.shape(rollouts, logits, proximal)
        counted = rollouts.mask * ~rollouts.auxiliary[:, None]
        record = {
            "entropy": float((entropy(logits) * counted).sum() / counted.sum()),
            "surrogate": 0.0,
            "auxiliary": 0.0,
        }
        norms = []
        for minibatch in range(MINIBATCHES):
            rows = [i for i in everything if slots[i] % MINIBATCHES == minibatch]
            part = Rollouts(**{name: values[rows] for name, values in vars(rollouts).items()})
            logits = forward(rows)
            base, auxiliary = (MINIBATCHES * s[rows] for s in shares)
            none = np.zeros(len(rows))
            current = logits.detach().numpy()
            shaped = replace(
                shape,
                advantages=shape.advantages[rows],
                keep=shape.keep[rows],
                penalty=shape.penalty[rows],
            )
            entropy_share = MINIBATCHES / len(base_tokens(rollouts))
            arguments = (current, proximal[rows], part)
            unrewarded = replace(shaped, bonus=0.0)
            surrogate, _ = loss_and_gradient(*arguments, (base, none), objective, unrewarded)
            positives, _ = loss_and_gradient(*arguments, (none, auxiliary), objective, unrewarded)
            record["surrogate"] -= surrogate
            record["auxiliary"] -= positives / ALPHA
            _, gradient = loss_and_gradient(*arguments, (base, auxiliary), objective, shaped, entropy_share)
            optimizer.zero_grad()
            logits.backward(torch.from_numpy(gradient))
            norms.append(
                float(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["gradient_clip"]))
            )
            optimizer.param_groups[0]["lr"] = OPTIMIZER["learning_rate"] * min(1.0, (step + 1) / 2)
            optimizer.step()
        record["surrogate"] /= MINIBATCHES
        record["auxiliary"] /= MINIBATCHES
        record["gradient_norm"] = sum(norms) / MINIBATCHES
        records.append(record)
    return records, {name: value.detach() for name, value in model.named_parameters()}


@pytest.fixture(scope="module")
def plain(
    model_dir: Path, off_policy_groups: list[Group]
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    return plain_training(model_dir, off_policy_groups)


@pytest.fixture(scope="module")
def lopsided_weights(model_dir: Path) -> dict[str, torch.Tensor]:
    return plain_training(model_dir, make_groups(model_dir, noise=0.5, lengths=lopsided_length))[1]


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


@pytest.fixture(scope="module")
def plain_controls(model_dir: Path, off_policy_groups: list[Group]) -> dict[str, Any]:
    controls = {"grpo": Control(), **CONTROLS}
    return {
        name: plain_training(model_dir, off_policy_groups, control, steps=1)
        for name, control in controls.items()
    }


@pytest.mark.parametrize("runs", [2], indirect=True, ids=["two ranks"])
@pytest.mark.parametrize("name", CONTROLS)
def test_every_rival_control_trains_like_a_plain_loop(
    runs: Path, plain_controls: dict[str, Any], name: str
) -> None:
    """Statistics of the step are over both ranks and all micro-batches."""
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
    assert all(math.isfinite(v) for v in metrics.values()), metrics
    assert metrics["tokens"] == sum(int(t.mask.sum()) for t in everything)
    assert metrics["positives"] == sum(t.reward == 1 for t in by_role["adaptive"]) > 0
    assert metrics["reward_base"] == pytest.approx(np.mean([t.reward for t in by_role["base"]]))
    assert metrics["reward_adaptive"] == pytest.approx(np.mean([t.reward for t in by_role["adaptive"]]))
    assert metrics["generator_entropy"] == pytest.approx(-behaviour / base_tokens, rel=1e-5)
    assert metrics["mismatch_kl_base"] > 0.05


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
    """Whatever a rank's share of the tokens, all ranks must gather the head equally often."""
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
