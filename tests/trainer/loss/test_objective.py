"""The SCOPE objective and its gradient against the float64 NumPy reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.loss_cases import steps
from tests.support.reference import (
    Objective,
    Rollouts,
    chosen_logprobs,
    group_advantages,
    log_softmax,
    loss_and_gradient,
    row_weights,
)
from trainer.config import EntropyControlConfig
from trainer.head.logprobs import token_logprobs
from trainer.loss.auxiliary_pool import PoolSums, auxiliary_scale, surprisal_scores
from trainer.loss.objective import LossInputs, scope_loss
from trainer.rollouts.rewards import group_advantages as trainer_advantages
from trainer.rollouts.rewards import is_uniform


def torch_logprobs(logits: torch.Tensor, rollouts: Rollouts, chunks: int = 3) -> torch.Tensor:
    """The trainer's log-probabilities on the counted tokens, as the policy lays them out. -> [N, T]."""
    rows, columns = np.nonzero(rollouts.mask)
    logprobs, _ = token_logprobs(
        logits[rows, columns],
        lambda hidden: hidden,
        torch.from_numpy(rollouts.targets[rows, columns]),
        torch.tensor(rollouts.temperature[rows], dtype=logits.dtype),
        chunks=chunks,
        with_entropy=False,
    )
    where = (torch.from_numpy(rows), torch.from_numpy(columns))
    return logits.new_zeros(rollouts.mask.shape).index_put(where, logprobs)


def torch_weights(
    proximal: torch.Tensor, rollouts: Rollouts, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor]:
    """Base and auxiliary row weights, combined from the trainer's functions as the learner does."""
    auxiliary = torch.from_numpy(rollouts.auxiliary)
    present = torch.from_numpy(rollouts.mask.sum(1) > 0)
    rewards = torch.from_numpy(rollouts.rewards * (rollouts.mask.sum(1) > 0))
    positive = (rewards >= 1).double()
    scores = surprisal_scores(positive, -proximal.sum(-1), objective.rho) * auxiliary
    sums = PoolSums(
        rollouts=float((auxiliary & present).sum()),
        learned=float((positive * auxiliary).sum()),
        scores=float(scores.sum()),
        squared_scores=float(scores.square().sum()),
    )
    scale = auxiliary_scale(
        EntropyControlConfig(normalization=objective.normalization, evidence_floor=0), sums
    )
    base = (~auxiliary & present).double() / max(1, int((~auxiliary & present).sum()))
    return base, scores * scale


def torch_loss(
    logits: np.ndarray,
    proximal: torch.Tensor,
    rollouts: Rollouts,
    weights: tuple[torch.Tensor, torch.Tensor],
    objective: Objective,
    dtype: torch.dtype = torch.float64,
) -> tuple[float, np.ndarray]:
    leaf = torch.tensor(logits, dtype=dtype, requires_grad=True)
    inputs = LossInputs(
        logprobs=torch_logprobs(leaf, rollouts),
        proximal_logprobs=proximal.to(dtype),
        behaviour_logprobs=torch.tensor(rollouts.behaviour, dtype=dtype),
        mask=torch.tensor(rollouts.mask, dtype=dtype),
        advantages=torch.tensor(
            np.where(rollouts.auxiliary, 1.0, rollouts.advantages)[:, None] * np.ones(rollouts.mask.shape),
            dtype=dtype,
        ),
        base_weight=weights[0].to(dtype),
        auxiliary_weight=weights[1].to(dtype),
    )
    outputs = scope_loss(
        inputs,
        alpha=objective.alpha,
        clip_low=objective.clip_low,
        clip_high=objective.clip_high,
        tis_cap=objective.cap,
    )
    outputs.loss.backward()
    assert leaf.grad is not None
    return outputs.loss.item(), leaf.grad.numpy()


@given(steps())
@settings(deadline=None, max_examples=200)
def test_loss_and_gradient_are_those_of_the_reference(step):
    logits, proximal_logits, rollouts, objective = step
    proximal = torch_logprobs(torch.from_numpy(proximal_logits), rollouts)
    weights = torch_weights(proximal, rollouts, objective)
    loss, gradient = torch_loss(logits, proximal, rollouts, weights, objective)
    expected_proximal = chosen_logprobs(
        proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature
    )
    shares = row_weights(rollouts, expected_proximal, objective)
    expected_loss, expected_gradient = loss_and_gradient(
        logits, expected_proximal, rollouts, shares, objective
    )
    np.testing.assert_allclose(proximal.numpy(), expected_proximal, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-12)


@given(steps())
@settings(deadline=None, max_examples=60)
def test_float32_as_trained_stays_within_1e_5_of_the_reference(step):
    logits, proximal_logits, rollouts, objective = step
    proximal = torch_logprobs(torch.from_numpy(proximal_logits), rollouts)
    weights = torch_weights(proximal, rollouts, objective)
    loss, gradient = torch_loss(logits, proximal, rollouts, weights, objective, torch.float32)
    shares = row_weights(rollouts, proximal.numpy(), objective)
    # a ratio at the clipping bound may round to either side; only then do the two gradients differ
    ratio = np.exp(
        chosen_logprobs(logits, rollouts.targets, rollouts.mask, rollouts.temperature) - proximal.numpy()
    )
    edges = np.stack([ratio - (1 - objective.clip_low), ratio - (1 + objective.clip_high)])
    safe = (np.abs(edges) > 1e-4).all(axis=0)
    expected_loss, expected = loss_and_gradient(logits, proximal.numpy(), rollouts, shares, objective)
    scale = 1 + objective.alpha * 2 * objective.cap * ratio.max()
    np.testing.assert_allclose(loss, expected_loss, atol=1e-5 * scale)
    np.testing.assert_allclose(gradient[safe], expected[safe], atol=1e-5 * scale)


@given(steps())
@settings(deadline=None, max_examples=25)
def test_the_reference_gradient_is_the_slope_of_the_reference_loss(step):
    logits, proximal_logits, rollouts, objective = step
    proximal = chosen_logprobs(proximal_logits, rollouts.targets, rollouts.mask, rollouts.temperature)
    shares = row_weights(rollouts, proximal, objective)
    ratio = np.exp(chosen_logprobs(logits, rollouts.targets, rollouts.mask, rollouts.temperature) - proximal)
    _, gradient = loss_and_gradient(logits, proximal, rollouts, shares, objective)
    h = 1e-6
    for i, t in zip(*np.nonzero(rollouts.mask), strict=True):
        if min(abs(ratio[i, t] - 1 + objective.clip_low), abs(ratio[i, t] - 1 - objective.clip_high)) < 1e-4:
            continue  # at a bound of the clipping range there are two slopes
        for a in range(logits.shape[2]):
            up, down = logits.copy(), logits.copy()
            up[i, t, a] += h
            down[i, t, a] -= h
            above, _ = loss_and_gradient(up, proximal, rollouts, shares, objective)
            below, _ = loss_and_gradient(down, proximal, rollouts, shares, objective)
            scale = 1 + abs(above) + abs(gradient[i, t, a])
            assert (above - below) / (2 * h) == pytest.approx(gradient[i, t, a], abs=1e-7 * scale)


@given(steps(), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=80)
def test_losses_and_gradients_of_any_partition_add_up_to_the_whole(step, parts, seed):
    """Row weights come from the whole step; micro-batches and ranks may hold any of its rows."""
    logits, proximal_logits, rollouts, objective = step
    proximal = torch_logprobs(torch.from_numpy(proximal_logits), rollouts)
    weights = torch_weights(proximal, rollouts, objective)
    whole_loss, whole_gradient = torch_loss(logits, proximal, rollouts, weights, objective)
    owner = np.random.default_rng(seed).integers(0, parts, len(logits))
    loss, gradient = 0.0, np.zeros_like(whole_gradient)
    for part in range(parts):
        rows = np.flatnonzero(owner == part)
        some = Rollouts(**{name: values[rows] for name, values in vars(rollouts).items()})
        share = (weights[0][rows], weights[1][rows])
        part_loss, part_gradient = torch_loss(logits[rows], proximal[rows], some, share, objective)
        loss += part_loss
        gradient[rows] += part_gradient
    np.testing.assert_allclose(loss, whole_loss, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient, whole_gradient, rtol=1e-9, atol=1e-12)


@given(steps())
@settings(deadline=None, max_examples=60)
def test_auxiliary_weights_add_up_to_one_or_to_the_share_of_positives(step):
    _, proximal_logits, rollouts, objective = step
    proximal = torch_logprobs(torch.from_numpy(proximal_logits), rollouts)
    present = rollouts.auxiliary & (rollouts.mask.sum(1) > 0)
    count = int((present & (rollouts.rewards == 1)).sum())
    for normalization, total in (("positives", float(count > 0)), ("sum", count / max(1, present.sum()))):
        _, auxiliary = torch_weights(proximal, rollouts, replace(objective, normalization=normalization))
        assert float(auxiliary.sum()) == pytest.approx(total, abs=1e-12)
        assert (auxiliary.numpy()[~present] == 0).all()
        assert (auxiliary.numpy()[rollouts.rewards != 1] == 0).all()


def one_row(
    logprob: float, proximal: float, behaviour: float, *, advantage: float = 1.0, auxiliary: bool = False
):
    """Loss inputs of a single one-token rollout with weight 1."""

    def row(value: float) -> torch.Tensor:
        return torch.tensor([[value]], dtype=torch.float64)

    return LossInputs(
        logprobs=row(logprob).requires_grad_(),
        proximal_logprobs=row(proximal),
        behaviour_logprobs=row(behaviour),
        mask=row(1.0),
        advantages=row(advantage),
        base_weight=row(float(not auxiliary))[0],
        auxiliary_weight=row(float(auxiliary))[0],
    )


SETTINGS: dict[str, Any] = {"alpha": 0.5, "clip_low": 0.2, "clip_high": 0.28, "tis_cap": 2.0}


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.5, 2.0, -2.56, 1),
        (0.5, 2.0, -1.0, 0),  # below the range a positive advantage is not clipped
        (0.5, -2.0, 1.6, 1),
        (1.5, -2.0, 3.0, 0),
    ],
)
def test_hand_computed_clipping(ratio, advantage, expected, clipped):
    inputs = one_row(np.log(ratio) - 1, -1.0, -1.0, advantage=advantage)
    outputs = scope_loss(inputs, **SETTINGS)
    assert outputs.loss.item() == pytest.approx(expected)
    assert outputs.clipped_tokens.item() == clipped
    assert outputs.tokens.item() == 1
    (gradient,) = torch.autograd.grad(outputs.loss, inputs.logprobs)
    assert gradient.item() == pytest.approx(0.0 if clipped else -ratio * advantage)


def test_truncated_importance_weight_is_capped_above_only_and_alpha_scales_the_auxiliary_term():
    fresh = scope_loss(one_row(-1.0, -1.0, -1.0, auxiliary=True), **SETTINGS)
    rare = scope_loss(one_row(-1.0, -1.0, -4.0, auxiliary=True), **SETTINGS)
    stale = scope_loss(one_row(-1.0, -1.0, -1.0 + np.log(2.0), auxiliary=True), **SETTINGS)
    assert (fresh.loss.item(), rare.loss.item(), stale.loss.item()) == pytest.approx((-0.5, -1.0, -0.25))
    assert (fresh.auxiliary.item(), fresh.surrogate.item()) == pytest.approx((1.0, 0.0))


def test_a_rollout_of_another_temperature_is_weighed_by_how_likely_it_is_at_temperature_1():
    """Its tilt enters the surrogate below the cap, and not the auxiliary term, which has no target distribution."""
    rows = {"base": one_row(-1.0, -1.0, -1.0), "auxiliary": one_row(-1.0, -1.0, -1.0, auxiliary=True)}
    for tilt, weight in ((0.25, 0.25), (1.5, 1.5), (9.0, 2.0)):
        moved = {
            name: scope_loss(
                replace(row, tilt=torch.tensor([[np.log(tilt)]], dtype=torch.float64)), **SETTINGS
            )
            for name, row in rows.items()
        }
        assert moved["base"].surrogate.item() == pytest.approx(weight)
        assert moved["auxiliary"].auxiliary.item() == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 1.5))
@settings(deadline=None, max_examples=50)
def test_adaptive_rollouts_teach_the_reward_as_rollouts_of_the_policy_would(seed, temperature):
    """Without a cap, the expected gradient over answers sampled at any temperature is the policy gradient."""
    rng = np.random.default_rng(seed)
    z, advantages = rng.normal(size=6), rng.normal(size=6)
    policy, sampler = log_softmax(z), log_softmax(z, temperature)

    def column(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).unsqueeze(-1)

    leaf = torch.tensor(z, requires_grad=True)
    inputs = LossInputs(
        logprobs=torch.log_softmax(leaf, 0).unsqueeze(-1),
        proximal_logprobs=column(policy),
        behaviour_logprobs=column(policy),
        mask=torch.ones(6, 1, dtype=torch.float64),
        advantages=column(advantages),
        base_weight=torch.from_numpy(np.exp(sampler)),
        auxiliary_weight=torch.zeros(6, dtype=torch.float64),
        tilt=column(policy - sampler),
    )
    scope_loss(inputs, alpha=1.0, clip_low=0.2, clip_high=0.2, tis_cap=1e4).loss.backward()
    probabilities = np.exp(policy)
    expected = probabilities * (advantages - (probabilities * advantages).sum())
    assert leaf.grad is not None
    np.testing.assert_allclose(-leaf.grad.numpy(), expected, atol=1e-12)


@given(st.floats(0.05, 20), st.floats(-3, 3), st.floats(1.05, 5))
@settings(deadline=None)
def test_dual_clip_bounds_the_loss_of_negative_advantages_and_changes_nothing_else(ratio, advantage, dual):
    def of(**more: Any) -> tuple[Any, float]:
        inputs = one_row(np.log(ratio) - 1, -1.0, -1.0, advantage=advantage)
        outputs = scope_loss(inputs, **SETTINGS, **more)
        (slope,) = torch.autograd.grad(outputs.loss, inputs.logprobs)
        return outputs, slope.item()

    (plain, slope), (bounded, bounded_slope) = of(), of(dual_clip=dual)
    if advantage < 0 and ratio > dual:
        assert bounded.loss.item() == pytest.approx(-dual * advantage)
        assert bounded_slope == 0
        assert bounded.clipped_tokens == 1
    else:
        assert bounded.loss.item() == plain.loss.item()
        assert bounded_slope == slope
        assert bounded.clipped_tokens == plain.clipped_tokens


def test_dual_clip_leaves_lowered_failures_of_the_auxiliary_term_alone():
    failure = replace(one_row(np.log(9.0) - 1, -1.0, -1.0, auxiliary=True), auxiliary_weight=-torch.ones(1))
    assert scope_loss(failure, **SETTINGS, dual_clip=3.0).loss == scope_loss(failure, **SETTINGS).loss


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9), st.integers(0, 8))
def test_the_sample_deviation_divides_by_one_less_and_equal_rewards_have_advantage_zero(rewards, equal):
    values = np.array(rewards)
    sample = trainer_advantages(values, 1e-6, std="sample")
    assert np.isfinite(sample).all()
    if np.ptp(values) > 1e-3:
        expected = (values - values.mean()) / (values.std(ddof=1) + 1e-6)
        np.testing.assert_allclose(sample, expected, rtol=1e-6, atol=1e-9)
    same = np.full(equal + 1, rewards[0])
    assert not trainer_advantages(same, 1e-6, std="sample").any()
    assert is_uniform(same.tolist())
    assert is_uniform(rewards) == (not trainer_advantages(values, 1e-6).any())


def test_masked_tokens_neither_count_nor_contribute():
    counted = one_row(-1.0, -1.2, -1.1)
    padded = replace(
        counted,
        logprobs=torch.tensor([[-1.0, 0.0, -3.0]], dtype=torch.float64),
        proximal_logprobs=torch.tensor([[-1.2, 0.0, -1.0]], dtype=torch.float64),
        behaviour_logprobs=torch.tensor([[-1.1, -700.0, -1.0]], dtype=torch.float64),
        mask=torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        advantages=torch.tensor([[1.0, 1.0, 5.0]], dtype=torch.float64),
    )
    assert scope_loss(padded, **SETTINGS).loss.item() == pytest.approx(
        scope_loss(counted, **SETTINGS).loss.item()
    )
    assert scope_loss(padded, **SETTINGS).tokens.item() == 1


@pytest.mark.parametrize("rho", [0.0, 1.0, 8.0])
def test_answers_of_probability_one_keep_finite_weights(rho):
    rewards = torch.ones(3)
    scores = surprisal_scores(rewards, torch.zeros(3), rho)
    sums = PoolSums(3.0, 3.0, float(scores.sum()), float(scores.square().sum()))
    weights = scores * auxiliary_scale(EntropyControlConfig(evidence_floor=0), sums)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_a_step_without_positives_has_no_auxiliary_weight():
    scores = surprisal_scores((torch.tensor([0.0, 0.99]) >= 1).float(), torch.tensor([3.0, 4.0]), 1.0)
    assert not scores.any()
    assert auxiliary_scale(EntropyControlConfig(), PoolSums(rollouts=2.0)) == 0.0
    assert auxiliary_scale(EntropyControlConfig(normalization="sum"), PoolSums()) == 0.0


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=9))
def test_advantages_are_those_of_the_reference(rewards):
    values = np.array(rewards)
    np.testing.assert_allclose(trainer_advantages(values, 1e-6), group_advantages(values, 1e-6), atol=1e-9)
    if len(set(rewards)) == 1:
        assert np.abs(trainer_advantages(values, 1e-6)).max() < 1e-9
