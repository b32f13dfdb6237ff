"""A step's plan, loss and gradient under every rival control against the float64 reference, on one or more ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.distributed.ranks import Ranks
from tests.support.loss_cases import kinds, present, steps
from trainer.config import RunConfig
from trainer.config.load import validate_config
from trainer.loss.aggregation import base_row_weights
from trainer.loss.objective import scope_loss
from trainer.loss.step_plan import StepPlan, auxiliary_scores, plan_step, role_sums
from trainer.regularizers import make_regularizer
from trainer.rollouts.batch import RolloutBatch


def as_batch(rollouts: reference.Rollouts, samples: str = "positives") -> RolloutBatch:
    """The fields of a batch that the planner reads; the token ids are placeholders."""
    rows, direct = len(rollouts.mask), 1.0 if samples == "positives" else -1.0
    present = rollouts.mask.sum(1) > 0
    return RolloutBatch(
        input_ids=torch.zeros(rows, 1, dtype=torch.int64),
        prompt_lengths=torch.ones(rows, dtype=torch.int64),
        targets=torch.from_numpy(rollouts.targets),
        mask=torch.from_numpy(rollouts.mask),
        behaviour_logprobs=torch.from_numpy(rollouts.behaviour),
        temperature=torch.from_numpy(rollouts.temperature),
        advantages=torch.from_numpy(np.where(rollouts.auxiliary, direct * present, rollouts.advantages)),
        rewards=torch.from_numpy(rollouts.rewards * present),
        auxiliary=torch.from_numpy(rollouts.auxiliary),
        minibatch=torch.zeros(rows, dtype=torch.int64),
        slot=torch.arange(rows),
    )


def run_config(kind: str, aggregation: str = "sequence_mean", **fields: float) -> RunConfig:
    """Every token may be chosen, so that the result does not depend on random draws."""
    shares = {
        "clip_cov": {"ratio": 1.0, "lower": -0.5, "upper": 0.5},
        "kl_cov": {"ratio": 0.3, "coefficient": 0.7},
    }
    regularizer = {"kind": kind, **({kind: shares[kind]} if kind in shares else {})}
    if fields:
        regularizer[kind] = fields
    return validate_config(
        {
            "regularizer": regularizer,
            "rollout": {"max_new_tokens": 7},
            "loss": {"minibatches": 1, "aggregation": aggregation},
        }
    )


def planned(
    rollouts: reference.Rollouts,
    proximal_logits: np.ndarray,
    config: RunConfig,
    strength: float,
    samples: str = "positives",
) -> StepPlan:
    """The plan of one rank that holds `rollouts`."""
    hooks = make_regularizer(config.regularizer)
    logits = torch.from_numpy(proximal_logits)
    relative = hooks.relative_temperature(strength)

    def at(factor: float) -> torch.Tensor:
        return torch.from_numpy(
            reference.chosen_logprobs(
                proximal_logits, rollouts.targets, rollouts.mask, factor * rollouts.temperature
            )
        )

    entropy = torch.from_numpy(reference.entropy(logits.numpy()) * rollouts.mask)
    batch = as_batch(rollouts, samples)
    auxiliary = auxiliary_scores(batch, at(1.0), 0.0)
    return plan_step(
        batch,
        at(1.0),
        entropy,
        None if relative is None else at(relative),
        role_sums(batch, at(1.0), entropy, auxiliary),
        auxiliary,
        hooks,
        config,
        strength=strength,
        step=3,
    )


def expected_shape(
    kind: str, rollouts: reference.Rollouts, proximal_logits: np.ndarray, strength: float
) -> reference.Shape:
    """The reference's result with the settings of `run_config`."""

    def at(factor: float) -> np.ndarray:
        return reference.chosen_logprobs(
            proximal_logits, rollouts.targets, rollouts.mask, factor * rollouts.temperature
        )

    plain = reference.plain_shape(rollouts)
    match kind:
        case "entropy_bonus" | "adaptive_coefficient":
            return reference.Shape(plain.advantages, plain.keep, plain.penalty, bonus=strength)
        case "clip_higher":
            return reference.Shape(plain.advantages, plain.keep, plain.penalty, clip=(0.2, strength))
        case "clip_cov":
            for place in reference.clip_cov_candidates(rollouts, at(1.0), -0.5, 0.5):
                plain.keep[place] = 0
            return plain
        case "kl_cov":
            count = max(1, int(0.3 * len(reference.base_tokens(rollouts))))
            return reference.kl_cov(rollouts, at(1.0), count, strength)
        case "entropy_advantage":
            return reference.entropy_advantage(rollouts, reference.entropy(proximal_logits), strength, 2.0)
        case "dcpo" if strength != 0:
            return reference.dcpo(rollouts, at(1.0), at(1.2 if strength > 0 else 0.8), strength)
        case _:
            return plain


def plan_loss(
    plan: StepPlan, batch: RolloutBatch, logits: np.ndarray, rollouts: reference.Rollouts, alpha: float
) -> tuple[float, np.ndarray]:
    """Loss of the rows that the plan marks as learning, and its gradient with respect to the logits."""
    leaf = torch.tensor(logits, requires_grad=True)
    temperature = torch.from_numpy(rollouts.temperature)[:, None, None]
    chosen = (leaf / temperature).log_softmax(-1).gather(-1, torch.from_numpy(rollouts.targets)[..., None])
    logp = leaf.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    rows = plan.learning.nonzero().squeeze(-1)
    micro = batch.select(rows)
    outputs = scope_loss(
        plan.inputs(rows, micro, chosen.squeeze(-1)[rows] * micro.mask, entropy[rows]),
        alpha=alpha,
        clip_low=0.2,
        clip_high=0.2,
        tis_cap=2.0,
        base_clip=plan.base_clip,
        entropy_coefficient=plan.entropy_coefficient,
    )
    outputs.loss.backward()
    assert leaf.grad is not None
    return outputs.loss.item(), leaf.grad.numpy()


def strength_of(kind: str, drawn: float) -> float:
    """Only DCPO's strength is signed; Clip-Cov leaves all its candidates out."""
    return {"dcpo": drawn, "clip_cov": 1.0}.get(kind, abs(drawn))


def assume_no_ties(kind: str, rollouts: reference.Rollouts, proximal_logits: np.ndarray) -> None:
    """Rounding decides which of two equal covariances is larger."""
    proximal = reference.chosen_logprobs(
        proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature
    )
    ordered = np.sort(list(reference.covariances(rollouts, proximal).values()))
    assume(kind != "kl_cov" or len(ordered) < 2 or np.diff(ordered).min() > 1e-9)


aggregations = st.sampled_from(["sequence_mean", "token_mean", "dr_grpo"])
strengths = st.sampled_from([0.0, 0.05, 0.4, -0.07])


@given(kinds, aggregations, strengths, st.sampled_from(["positives", "negatives"]), steps())
@settings(deadline=None, max_examples=100)
def test_plan_loss_and_gradient_are_those_of_the_reference(kind, aggregation, strength, samples, step):
    """Rows that the plan leaves out also have no gradient in the reference."""
    logits, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    assume_no_ties(kind, rollouts, proximal_logits)
    objective = reference.Objective(alpha=0.5, samples=samples, aggregation=aggregation, budget=7)
    proximal = reference.chosen_logprobs(
        proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature
    )
    current = reference.chosen_logprobs(logits, rollouts.targets, rollouts.mask, rollouts.temperature)
    # |log r| has no derivative at r = 1, where rounding decides the sign.
    assume(kind != "kl_cov" or np.abs(current - proximal)[rollouts.mask > 0].min(initial=1.0) > 1e-9)
    plan = planned(rollouts, proximal_logits, run_config(kind, aggregation), strength, samples)
    loss, gradient = plan_loss(plan, as_batch(rollouts, samples), logits, rollouts, 0.5)
    expected_loss, expected = reference.loss_and_gradient(
        logits,
        proximal,
        rollouts,
        reference.row_weights(rollouts, proximal, objective),
        objective,
        expected_shape(kind, rollouts, proximal_logits, strength),
        entropy_share=1 / max(1, len(reference.base_tokens(rollouts))),
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@given(kinds, aggregations, strengths, steps(), st.integers(2, 3))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranks_that_share_a_batch_plan_what_one_rank_would(
    monkeypatch, kind, aggregation, strength, step, size
):
    _, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    assume_no_ties(kind, rollouts, proximal_logits)
    config = run_config(kind, aggregation)
    whole = planned(rollouts, proximal_logits, config, strength)
    shares = np.array_split(np.arange(len(rollouts.mask)), size)

    def share_of(rows: np.ndarray) -> StepPlan:
        part = reference.Rollouts(**{name: values[rows] for name, values in vars(rollouts).items()})
        return planned(part, proximal_logits[rows], config, strength)

    plans = Ranks(size).run(monkeypatch, [lambda rows=rows: share_of(rows) for rows in shares])
    for name in ("advantages", "keep", "penalty", "base_weight", "auxiliary_weight", "entropy_weight"):
        expected, parts = getattr(whole, name), [getattr(plan, name) for plan in plans]
        if expected is None:
            assert parts == [None] * size
        else:
            torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-9, atol=1e-9)


@given(kinds, strengths, steps())
@settings(deadline=None, max_examples=40)
def test_no_control_touches_auxiliary_rollouts(kind, strength, step):
    _, proximal_logits, rollouts, _ = step
    strength = strength_of(kind, strength)
    plan = planned(rollouts, proximal_logits, run_config(kind), strength)
    plain = planned(rollouts, proximal_logits, run_config("none"), 0.0)
    auxiliary = torch.from_numpy(rollouts.auxiliary)
    present = torch.from_numpy(rollouts.mask.sum(1) > 0)
    assert (plan.advantages[auxiliary & present] == 1).all()
    assert plan.keep is None or plan.keep[auxiliary].all()
    assert plan.penalty is None or not plan.penalty[auxiliary].any()
    assert not plan.entropy_weight[auxiliary].any()
    assert not plan.base_weight[auxiliary].any()
    assert torch.equal(plan.auxiliary_weight, plain.auxiliary_weight)


def test_draws_depend_on_seed_step_and_rank_alone(monkeypatch):
    rng = np.random.default_rng(3)
    rows, width = 6, 50
    rollouts = reference.Rollouts(
        targets=rng.integers(0, 5, (rows, width)),
        mask=np.ones((rows, width)),
        temperature=np.ones(rows),
        behaviour=np.zeros((rows, width)),
        rewards=np.ones(rows),
        advantages=rng.normal(size=rows),
        auxiliary=np.zeros(rows, bool),
    )
    logits = rng.normal(size=(rows, width, 5))
    config = run_config("clip_cov", ratio=0.1, lower=-99.0, upper=99.0)

    def keep(run: RunConfig) -> torch.Tensor:
        return present(planned(rollouts, logits, run, 0.1).keep)

    once = keep(config)
    assert torch.equal(once, keep(config))
    assert (once == 0).sum() == 30
    assert not torch.equal(once, keep(config.model_copy(update={"seed": 2})))
    of_ranks = Ranks(2).run(monkeypatch, [lambda: keep(config)] * 2)
    assert not torch.equal(*of_ranks)
    assert sum(int((part == 0).sum()) for part in of_ranks) == 60


# Aggregation


def test_aggregation_by_hand():
    """Lengths 1 and 3 and an empty row; L = 4."""
    lengths = torch.tensor([1.0, 3.0, 0.0])
    by_name = {
        name: base_row_weights(name, lengths, rollouts=2, tokens=4, max_new_tokens=4).tolist()
        for name in ("sequence_mean", "token_mean", "dr_grpo")
    }
    assert by_name == {
        "sequence_mean": [0.5, 0.5, 0.0],
        "token_mean": [0.25, 0.75, 0.0],
        "dr_grpo": [0.125, 0.375, 0.0],
    }
    with pytest.raises(ValueError, match=r"loss\.aggregation='median'"):
        base_row_weights("median", lengths, rollouts=2, tokens=4, max_new_tokens=4)


# Configuration
