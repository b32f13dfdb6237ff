"""No log-probabilities make the loss, its gradient or a metric infinite or NaN, and inside the bound all is exact."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.loss_cases import kinds
from trainer.config import RunConfig
from trainer.config.load import validate_config
from trainer.head.fused import fused_logprobs
from trainer.head.log_ratio import BOUND
from trainer.head.logprobs import token_logprobs
from trainer.learner.reference_policy import reference_kl
from trainer.loss.objective import LossInputs, LossOutputs, kl_k3, scope_loss
from trainer.loss.step_plan import StepPlan, auxiliary_scores, plan_step, role_sums
from trainer.regularizers import make_regularizer
from trainer.rollouts.batch import RolloutBatch

SETTINGS: dict[str, Any] = {"alpha": 2.0, "clip_low": 0.2, "clip_high": 0.2, "tis_cap": 2.0}
EDGES = (0.0, -1e-3, -1.0, -19.9, -20.1, -88.6, -88.8, -104.0, -700.0, -1e4, 1e4, 89.0, -math.inf)


@st.composite
def batches(draw: st.DrawFn) -> tuple[RolloutBatch, dict[str, Tensor]]:
    """A batch, and log-probabilities and entropies of each policy for it, float32[N, T]."""
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 30.0, 200.0, 1e4]))

    def logprobs(edges: tuple[float, ...] = EDGES) -> Tensor:
        values = rng.uniform(-scale, draw(st.sampled_from([0.0, scale])), (rows, width))
        at_edge = rng.random((rows, width)) < draw(st.sampled_from([0.0, 0.5]))
        return torch.tensor(np.where(at_edge, rng.choice(edges, (rows, width)), values), dtype=torch.float32)

    mask = torch.tensor(
        rng.random((rows, width)) < draw(st.sampled_from([0.0, 0.5, 1.0])), dtype=torch.float32
    )
    auxiliary = torch.tensor(rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 1.0])))
    present = mask.any(-1)
    rewards = torch.tensor(rng.choice([0.0, 0.5, 1.0], rows), dtype=torch.float32) * present
    base = torch.tensor(rng.choice([-1.7, 0.0, 0.4], rows), dtype=torch.float32)
    batch = RolloutBatch(
        input_ids=torch.zeros(rows, 1, dtype=torch.int64),
        prompt_lengths=torch.ones(rows, dtype=torch.int64),
        targets=torch.zeros(rows, width, dtype=torch.int64),
        mask=mask,
        behaviour_logprobs=logprobs(EDGES[:-1]),
        temperature=torch.ones(rows),
        advantages=torch.where(auxiliary, draw(st.sampled_from([1.0, -1.0])), base) * present,
        rewards=rewards,
        auxiliary=auxiliary,
        minibatch=torch.zeros(rows, dtype=torch.int64),
        slot=torch.arange(rows),
    )
    policies = {name: logprobs() for name in ("current", "proximal", "tilted", "reference")}
    entropy = torch.tensor(rng.uniform(0, 12, (rows, width)), dtype=torch.float32)
    return batch, policies | {"entropy": entropy}


def configuration(kind: str, estimator: str, normalization: str, aggregation: str) -> RunConfig:
    return validate_config(
        {
            "regularizer": {"kind": kind, "clip_cov": {"ratio": 1.0, "lower": -1e9, "upper": 1e9}},
            "entropy_control": {"normalization": normalization},
            "loss": {
                "aggregation": aggregation,
                "reference": "start",
                "kl_coefficient": 100.0,
                "kl_estimator": estimator,
            },
        }
    )


def assert_finite(**values: Tensor | float | None) -> None:
    wrong = {
        name: value
        for name, value in values.items()
        if value is not None and not torch.as_tensor(value, dtype=torch.float64).isfinite().all()
    }
    assert wrong == {}


def numbers_of(one: StepPlan | LossOutputs) -> dict[str, Tensor | float]:
    found = {field.name: getattr(one, field.name) for field in fields(one)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor | float)}


@given(
    batches(),
    kinds,
    st.sampled_from(["k1", "k3"]),
    st.sampled_from(["sum", "positives"]),
    st.sampled_from(["sequence_mean", "token_mean", "dr_grpo"]),
    st.sampled_from([0.0, 0.5, 8.0]),
    st.sampled_from([0.0, 0.4, -0.1]),
)
@settings(deadline=None, max_examples=300)
def test_every_number_of_a_step_is_finite(
    made: tuple[RolloutBatch, dict[str, Tensor]],
    kind: str,
    estimator: str,
    normalization: str,
    aggregation: str,
    exponent: float,
    strength: float,
) -> None:
    batch, policies = made
    strength = strength if kind == "dcpo" else abs(strength)
    config = configuration(kind, estimator, normalization, aggregation)
    proximal, reference = policies["proximal"], policies["reference"]
    auxiliary = auxiliary_scores(batch, proximal, exponent)
    sums = role_sums(batch, proximal, policies["entropy"], auxiliary)
    plan = plan_step(
        batch,
        proximal,
        policies["entropy"],
        policies["tilted"] if kind == "dcpo" else None,
        sums,
        auxiliary,
        make_regularizer(config.regularizer),
        config,
        strength=strength,
        step=3,
        reference=reference,
    )
    for of_role in sums:
        assert_finite(**vars(of_role))
    assert_finite(scores=auxiliary.scores, kl=reference_kl(batch, proximal, reference.clamp(min=-1e4)))
    assert_finite(**{k: v for k, v in numbers_of(plan).items() if k not in ("proximal", "reference")})
    logprobs, entropy = (policies[name].requires_grad_() for name in ("current", "entropy"))
    outputs = scope_loss(
        plan.inputs(torch.arange(len(batch.rewards)), batch, logprobs, entropy),
        **SETTINGS,
        base_clip=plan.base_clip,
        entropy_coefficient=plan.entropy_coefficient,
        kl_coefficient=config.loss.kl_coefficient if plan.kl_weight is not None else 0.0,
    )
    outputs.loss.backward()
    assert_finite(**numbers_of(outputs), of_logprobs=logprobs.grad, of_entropy=entropy.grad)
    assert logprobs.grad is not None
    assert not logprobs.grad[batch.mask == 0].any()


def one_token(
    current: float, proximal: float, behaviour: float, *, mask: float = 1.0, weight: float = 1.0, **more: Any
) -> LossInputs:
    """One base rollout of a counted token beside it, and the token of the test."""
    row = {name: torch.tensor([[-1.0, value]]) for name, value in locals().items() if name in LOGPROBS}
    return LossInputs(
        logprobs=row["current"].requires_grad_(),
        proximal_logprobs=row["proximal"],
        behaviour_logprobs=row["behaviour"],
        mask=torch.tensor([[1.0, mask]]),
        advantages=torch.tensor([[1.0, more.pop("advantage", 1.0)]]),
        base_weight=torch.tensor([weight]),
        auxiliary_weight=torch.zeros(1),
        **more,
    )


LOGPROBS = ("current", "proximal", "behaviour")


def gradient(inputs: LossInputs, **more: Any) -> Tensor:
    outputs = scope_loss(inputs, **(SETTINGS | more))
    assert outputs.loss.isfinite()
    (slope,) = torch.autograd.grad(outputs.loss, inputs.logprobs)
    assert slope.isfinite().all()
    return slope


@pytest.mark.parametrize(("mask", "weight"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_no_pair_of_log_probabilities_breaks_the_loss(mask: float, weight: float) -> None:
    for current, proximal in itertools.product(EDGES, repeat=2):
        for advantage in (1.0, -1.0):
            inputs = one_token(current, proximal, -1.0, mask=mask, weight=weight, advantage=advantage)
            slope = gradient(inputs, base_clip=(1.0, math.inf))
            assert slope[0, 0] == -weight / (1 + mask), "the other token keeps its gradient"
            assert mask * weight or slope[0, 1] == 0


@pytest.mark.parametrize("behaviour", EDGES[:-1])
def test_the_correction_of_a_mismatch_stays_between_0_and_its_cap(behaviour: float) -> None:
    for proximal in EDGES:
        slope = gradient(one_token(proximal, proximal, behaviour))
        assert -1.0 <= slope[0, 1] <= 0.0


def test_a_nan_is_not_hidden() -> None:
    """Broken weights must end the run by the norm of their gradient."""
    assert scope_loss(one_token(math.nan, -1.0, -1.0), **SETTINGS).loss.isnan()
    assert scope_loss(one_token(-1.0, math.nan, -1.0), **SETTINGS).loss.isnan()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_gradient_is_exact_up_to_the_bound_and_0_beyond(sign: float, advantage: float) -> None:
    inside, outside = sign * (BOUND - 0.25), sign * (BOUND + 0.25)
    free: dict[str, Any] = {"base_clip": (1.0, math.inf)}
    slope = gradient(one_token(-30.0 + inside, -30.0, -30.0, advantage=advantage), **free)
    assert slope[0, 1] == pytest.approx(-advantage * math.exp(inside) / 2, rel=1e-6)
    beyond = one_token(-30.0 + outside, -30.0, -30.0, advantage=advantage)
    assert gradient(beyond, **free)[0, 1] == 0
    assert scope_loss(beyond, **SETTINGS).clamped_tokens == 1


@pytest.mark.parametrize(
    ("current", "proximal", "behaviour", "mask", "weight", "count"),
    [
        (-1.0, -1.0, -1.0, 1.0, 1.0, 0),
        (-21.0, -1.0, -1.0, 1.0, 1.0, 0),
        (-21.1, -1.0, -1.0, 1.0, 1.0, 1),
        (-1.0, -21.1, -21.1, 1.0, 1.0, 1),
        (-1.0, -1.0, -21.1, 1.0, 1.0, 1),
        (-1.0, -21.1, -1.0, 1.0, 1.0, 1),
        (-21.1, -1.0, -1.0, 0.0, 1.0, 0),
        (-21.1, -1.0, -1.0, 1.0, 0.0, 0),
    ],
)
def test_a_token_counts_once_where_one_of_its_log_ratios_is_beyond_the_bound(
    current: float, proximal: float, behaviour: float, mask: float, weight: float, count: int
) -> None:
    inputs = one_token(current, proximal, behaviour, mask=mask, weight=weight)
    assert scope_loss(inputs, **SETTINGS).clamped_tokens == count


def test_kl_k3_is_exact_inside_the_bound_and_pulls_back_from_any_distance() -> None:
    policy = torch.tensor([-0.1, -1.0, -25.0, -0.1, -100.0, -1e4], requires_grad=True)
    reference = torch.tensor([-0.1, -3.0, -6.0, -1e4, -0.1, 1e4])
    difference = (reference - policy.detach()).double()
    estimate = kl_k3(policy, reference)
    exact = difference.exp() - 1 - difference
    torch.testing.assert_close(estimate.detach()[:4].double(), exact[:4], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(estimate.detach()[4:], torch.full((2,), math.exp(BOUND) - 1 - BOUND))
    (slope,) = torch.autograd.grad(estimate.sum(), policy)
    torch.testing.assert_close(slope[:4].double(), (1 - difference.exp())[:4], rtol=1e-6, atol=1e-6)
    assert slope[3] == 1, "the policy is 1e4 nats above the reference"
    assert not slope[4:].any()


def test_the_kl_term_counts_its_clamped_tokens() -> None:
    inputs = one_token(
        -25.0, -25.0, -25.0, reference=torch.tensor([[-1.0, -0.1]]), kl_weight=torch.ones(1), weight=0.0
    )
    assert scope_loss(inputs, **SETTINGS, kl_coefficient=0.1).clamped_tokens == 1
    assert scope_loss(inputs, **SETTINGS).clamped_tokens == 0


def test_sums_over_the_longest_answers_stay_exact() -> None:
    """Float32 cannot count beyond 2^24 one by one, and -0.1 is not exact in it."""
    tokens = 131072
    mask = torch.ones(2, tokens)
    batch = RolloutBatch(
        input_ids=torch.zeros(2, 1, dtype=torch.int64),
        prompt_lengths=torch.ones(2, dtype=torch.int64),
        targets=torch.zeros(2, tokens, dtype=torch.int64),
        mask=mask,
        behaviour_logprobs=torch.full((2, tokens), -0.1),
        temperature=torch.ones(2),
        advantages=torch.tensor([1.0, 1.0]),
        rewards=torch.ones(2),
        auxiliary=torch.tensor([False, True]),
        minibatch=torch.zeros(2, dtype=torch.int64),
        slot=torch.arange(2),
    )
    proximal = torch.full((2, tokens), -1e4)
    auxiliary = auxiliary_scores(batch, proximal, 8.0)
    assert auxiliary.scores[1].item() == pytest.approx((1e4 * tokens) ** 8, rel=1e-9)
    base, _ = role_sums(batch, proximal, 0.3 * mask, auxiliary)
    assert (base.tokens, base.rollouts) == (tokens, 1)
    assert base.behaviour == pytest.approx(-0.1 * tokens, rel=1e-7)
    assert base.kl / tokens == pytest.approx(1e4 - 1.1, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 100.0, 1e4]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_head_gives_finite_numbers_for_logits_of_any_size(
    seed: int, scale: float, fused: bool, entropy_gradient: bool
) -> None:
    rng = np.random.default_rng(seed)
    hidden = torch.tensor(rng.normal(size=(5, 4)), dtype=torch.float32, requires_grad=True)
    weight = torch.tensor(scale * rng.normal(size=(9, 4)), dtype=torch.float32, requires_grad=True)
    targets = torch.tensor(rng.integers(0, 9, 5))
    temperature = torch.tensor(rng.choice([0.05, 1.0, 10.0], 5), dtype=torch.float32)
    wanted: dict[str, Any] = {"with_entropy": True, "entropy_gradient": entropy_gradient}
    if fused:
        made = fused_logprobs(hidden, weight, None, targets, temperature, block_columns=4, **wanted)
    else:
        made = token_logprobs(hidden, lambda h: h @ weight.T, targets, temperature, chunks=2, **wanted)
    (made[0].sum() + (made[1].sum() if entropy_gradient else 0)).backward()
    assert_finite(logprobs=made[0], entropy=made[1], of_hidden=hidden.grad, of_weight=weight.grad)
