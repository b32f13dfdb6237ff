"""The pool of the auxiliary loss: what weighs how much, by length, by prompt, by token, and by how many succeed."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.batches import batch_of
from tests.support.reference import entropy
from trainer.config import EntropyControlConfig
from trainer.loss.auxiliary_pool import AuxiliaryPool, PoolSums, auxiliary_pool, auxiliary_scale, pool_sums
from trainer.rollouts.batch import RolloutBatch

Surprisal = Literal["answer", "answer_mean", "prompt", "token"]
KINDS: tuple[Surprisal, ...] = ("answer", "answer_mean", "prompt", "token")


def positives_of(logprobs: list[list[float]], slots: list[int] | None = None) -> tuple[RolloutBatch, Tensor]:
    """A batch of adaptive positives with these token log-probabilities, and the same as float64[N, T]."""
    width = max(map(len, logprobs))
    padded = torch.tensor([row + [0.0] * (width - len(row)) for row in logprobs], dtype=torch.float64)
    lengths = torch.tensor([len(row) for row in logprobs])
    mask = (torch.arange(width) < lengths.unsqueeze(-1)).double()
    rows = len(logprobs)
    batch = batch_of(
        mask,
        padded,
        torch.ones(rows, dtype=torch.bool),
        rewards=torch.ones(rows),
        slot=torch.tensor(slots or [0] * rows),
    )
    return batch, padded


def pool_of(batch: RolloutBatch, logprobs: Tensor, rho: float, surprisal: Surprisal) -> AuxiliaryPool:
    return auxiliary_pool(batch, logprobs, rho, EntropyControlConfig(surprisal=surprisal))


def token_weights(pool: AuxiliaryPool, batch: RolloutBatch) -> Tensor:
    """The weight of each token in the term, up to one factor: score of its row by length, times its own weight."""
    per_token = (pool.scores / batch.mask.sum(-1)).unsqueeze(-1) * batch.mask
    return per_token if pool.token_weight is None else per_token * pool.token_weight


def lognormal_answers(seed: int) -> tuple[RolloutBatch, Tensor]:
    """Answers of lognormal length at 0.3 ± 0.06 nats a token."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(1, np.exp(rng.normal(4, 0.5, 600)).round()).astype(int)
    means = rng.normal(0.3, 0.06, 600).clip(0.05)
    return positives_of([[-mean] * n for mean, n in zip(means, lengths, strict=True)])


@pytest.mark.parametrize(("rho", "growth"), [(0.5, 1.13), (1.0, 1.28), (2.0, 1.62), (3.0, 2.0)])
def test_surprisal_of_whole_answers_is_a_weight_of_length_and_that_of_tokens_is_not(rho, growth):
    batch, logprobs = lognormal_answers(0)
    sums = {
        kind: pool_sums(batch, pool_of(batch, logprobs, rho, kind))
        for kind in ("answer", "answer_mean", "token")
    }
    assert sums["answer"].weighted_length / sums["answer"].mean_length == pytest.approx(growth, rel=0.08)
    for kind in ("answer_mean", "token"):
        assert sums[kind].weighted_length / sums[kind].mean_length == pytest.approx(1, abs=0.02)
        assert sums[kind].effective > sums["answer"].effective
    assert sums["answer_mean"].effective / 600 > 0.7


def test_sums_are_those_of_the_weights():
    batch, logprobs = positives_of([[-1.0], [-1.0, -2.0], [-0.5] * 4])
    sums = pool_sums(batch, pool_of(batch, logprobs, 1.0, "answer"))
    # weights 1, 3, 2
    assert (sums.rollouts, sums.learned) == (3, 3)
    assert sums.effective == pytest.approx(36 / 14)
    assert sums.largest_share == pytest.approx(0.5)
    assert sums.mean_length == pytest.approx(7 / 3)
    assert sums.weighted_length == pytest.approx((1 + 6 + 8) / 6)


def test_a_prompt_weighs_as_much_as_it_has_positives():
    batch, logprobs = positives_of([[-9.0], [-3.0], [-0.1]], [4, 4, 7])
    scores = pool_of(batch, logprobs, 2.0, "prompt").scores
    assert scores.tolist() == pytest.approx([1.8, 0.2, 1.0])


@given(
    st.lists(st.lists(st.floats(-8, -1e-3), min_size=1, max_size=5), min_size=1, max_size=6),
    st.floats(0, 4),
    st.sampled_from(KINDS),
)
@settings(deadline=None, max_examples=60)
def test_the_weights_of_a_row_average_its_score_whatever_they_are_of(rows, rho, kind):
    batch, logprobs = positives_of(rows)
    pool = pool_of(batch, logprobs, rho, kind)
    weights = token_weights(pool, batch)
    torch.testing.assert_close(weights.sum(-1), pool.scores, rtol=1e-5, atol=1e-12)
    if kind == "token":
        expected = batch.mask * (-logprobs).clamp(min=1e-6).pow(rho) / batch.mask.sum(-1, keepdim=True)
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-12)


def change_of_entropy(logits: np.ndarray, weights: np.ndarray) -> float:
    """First-order change of entropy by a step that raises each answer's log-probability by its weight."""
    eta = 1e-6
    p = np.exp(logits - logits.max())
    p /= p.sum()
    moved = logits + eta * (weights - weights.sum() * p)
    return float(entropy(moved) - entropy(logits)) / eta


@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.integers(2, 12))
@settings(deadline=None, max_examples=80)
def test_theorem_2_holds_for_each_of_them_where_an_answer_is_one_token(seed, kind, size):
    """With one prompt and one token an answer, which for `token` is every context of a longer answer."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.uniform(0.5, 3), size)
    logp = logits - np.log(np.exp(logits).sum())
    sampled = rng.random(size) * (rng.random(size) < 0.7)
    batch, logprobs = positives_of([[value] for value in logp])
    changes = []
    for rho in (0.0, 0.5, 1.0, 2.0, 4.0):
        weights = sampled * pool_of(batch, logprobs, rho, kind).scores.numpy()
        if weights.sum():
            changes.append(change_of_entropy(logits, weights / weights.sum()))
    for milder, stronger in itertools.pairwise(changes):
        assert milder < 1e-9 or stronger > -1e-6


def test_theorem_2_does_not_hold_for_the_mean_over_answers_of_different_length():
    """A rare long answer of small surprisal a token weighs less than a likely short one, and entropy falls."""
    p = np.array([0.6, 0.1, 0.3])
    batch, logprobs = positives_of([[np.log(0.6)], [np.log(0.1) / 10] * 10])

    def change(rho: float, kind: Surprisal) -> float:
        scores = pool_of(batch, logprobs, rho, kind).scores.numpy()
        weights = p * np.array([*scores, 0.0])
        return change_of_entropy(np.log(p), weights / weights.sum())

    assert change(0.0, "answer_mean") == pytest.approx(change(0.0, "answer"))
    assert change(3.0, "answer_mean") < change(0.0, "answer_mean")
    assert change(3.0, "answer") > change(0.0, "answer")


def test_a_lone_success_does_not_carry_all_of_alpha_and_many_lose_nothing():
    control = EntropyControlConfig()
    lone, logprobs = positives_of([[-3.0]])
    few, few_logprobs = positives_of([[-3.0]] * 4)
    many, many_logprobs = positives_of([[-1.0 - i / 50] for i in range(100)])

    def total(batch: RolloutBatch, values: Tensor, rho: float) -> float:
        pool = pool_of(batch, values, rho, "answer")
        return float(pool.scores.sum()) * auxiliary_scale(control, pool_sums(batch, pool))

    assert total(lone, logprobs, 1.0) == pytest.approx(1 / 8)
    assert total(few, few_logprobs, 1.0) == pytest.approx(4 / 8)
    for rho in (0.0, 1.0, 3.0):
        assert total(many, many_logprobs, rho) == pytest.approx(1.0)


def test_one_answer_that_outweighs_many_counts_as_one():
    batch, logprobs = positives_of([[-0.01]] * 50 + [[-40.0]])
    pool = pool_of(batch, logprobs, 3.0, "answer")
    sums = pool_sums(batch, pool)
    assert sums.effective == pytest.approx(1, abs=1e-3)
    assert sums.largest_share == pytest.approx(1, abs=1e-3)
    assert sums.scores * auxiliary_scale(EntropyControlConfig(), sums) == pytest.approx(1 / 8, abs=1e-3)


def test_without_a_floor_the_weights_always_add_up_to_one_and_the_sum_form_counts_the_pool():
    sums = PoolSums(rollouts=64, learned=2, scores=5.0, squared_scores=13.0)
    assert auxiliary_scale(EntropyControlConfig(evidence_floor=0), sums) == pytest.approx(1 / 5)
    assert auxiliary_scale(EntropyControlConfig(normalization="sum"), sums) == pytest.approx(2 / 64 / 5)


def test_correct_base_rollouts_are_in_the_pool_only_where_it_takes_all():
    mask = torch.ones(4, 1)
    auxiliary = torch.tensor([False, False, True, True])
    rewards = torch.tensor([1.0, 0.0, 1.0, 0.0])
    for of, learned in ((auxiliary.float(), [0, 0, 1, 0]), (torch.ones(4), [1, 0, 1, 0])):
        batch = batch_of(mask, -mask, auxiliary, rewards=rewards, auxiliary_advantages=of)
        assert pool_of(batch, -mask, 1.0, "answer").learned.tolist() == learned
