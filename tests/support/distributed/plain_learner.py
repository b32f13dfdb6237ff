"""References for the learner tests: random rollouts, the rival controls, and training in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.support.reference import (
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
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, Trajectory, VersionSpan

VOCABULARY, PROMPTS, SAMPLES, MINIBATCHES = 24, 6, 4, 2
STEPS, ALPHA, EXPONENT, FLOOR, BASE_TEMPERATURE, BUDGET = 2, 0.7, 1.5, 8.0, 0.7, 16
OPTIMIZER = {
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "epsilon": 1e-3,  # large: otherwise Adam turns the sign of a rounding error into a full step
    "gradient_clip": 0.05,
}


@dataclass(frozen=True)
class Control:
    """A rival control as configured in the learner: kind, fields of its block, strength and aggregation."""

    kind: str = "none"
    fields: dict[str, float] = field(default_factory=dict)
    strength: float = 0.0
    aggregation: str = "sequence_mean"
    stage: int = 2

    def shape(self, rollouts: Rollouts, logits: np.ndarray, proximal: np.ndarray) -> Shape:
        """The reference's result for this control."""
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
    """A configuration with small micro-batches and logit chunks, so that every step takes several of each."""
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


def response_logits(model: torch.nn.Module, prompt: np.ndarray, tokens: np.ndarray) -> torch.Tensor:
    """Logits of each response token given what precedes it, one sequence at a time. -> [T, V]."""
    ids = torch.from_numpy(np.concatenate([prompt, tokens]).astype(np.int64))
    return model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]


def make_groups(
    model_dir: Path, *, noise: float, lengths: Callable[[int, np.random.Generator], int]
) -> list[Group]:
    """Random rollouts whose behaviour log-probabilities are the model's own plus Gaussian `noise`."""
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
                    )  # a masked token, impossible under the sampler
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
                    entropy_target_generation=1,
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
    """Slots 0, 1, 4 and 5, which belong to rank 0 with two minibatches and two ranks, get all the long responses."""
    return 12 if (slot // MINIBATCHES) % 2 == 0 else 1


def plain_training(
    model_dir: Path, groups: list[Group], control: Control | None = None, steps: int = STEPS
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """The same steps with one float64 model, one sequence at a time, torch's AdamW and the NumPy gradient."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    control = control or Control()
    objective = Objective(
        alpha=ALPHA, rho=EXPONENT, floor=FLOOR, aggregation=control.aggregation, budget=BUDGET
    )
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
