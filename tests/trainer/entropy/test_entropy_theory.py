"""Why the regularizer works: theorems on a tabular softmax, to first order in the step size.

pi = softmax(z), q = softmax(z / T), f_a = pi_a (log pi_a + H), m_a = f_a - sum_b pi_b f_b, w_a in [0, 1]
the probability that answer a is rewarded. A small step of size eta on the expected auxiliary term changes the
entropy by -eta sum_a q_a w_a m_a. All trials are drawn from fixed seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.reference import entropy, log_softmax
from trainer.head.logprobs import token_logprobs
from trainer.loss.auxiliary_pool import surprisal_scores
from trainer.loss.objective import LossInputs, scope_loss

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tabular:
    """A policy over V answers and their probabilities of reward."""

    z: Array
    w: Array

    @cached_property
    def logp(self) -> Array:
        return log_softmax(self.z)

    @cached_property
    def m(self) -> Array:
        p = np.exp(self.logp)
        f = p * (self.logp + entropy(self.z))
        return f - p @ f

    def q(self, temperature: float) -> Array:
        return np.exp(log_softmax(self.z, temperature))

    def change(self, temperature: float, weights: Array | None = None) -> float:
        """Entropy change of the weighted answers for a unit step; by default of the positives."""
        return -float(self.q(temperature) @ ((self.w if weights is None else weights) * self.m))

    def negatives_change(self, temperature: float) -> float:
        """Entropy change of the unrewarded answers, whose advantage is -1, for a unit step."""
        return float(self.q(temperature) @ ((1 - self.w) * self.m))

    @cached_property
    def threshold(self) -> float:
        """p*, where m changes sign: the root of p (log p + H) = sum pi f, by bisection."""
        h, p = float(entropy(self.z)), np.exp(self.logp)
        level = float(p @ (p * (self.logp + h)))
        low, high = math.exp(-h), 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * (math.log(middle) + h) < level else (low, middle)
        return high


def trials(
    seed: int, count: int, *, graded: bool | None = None, rewarded: float | None = None
) -> Iterator[Tabular]:
    """Random policies from nearly flat to nearly certain, with 0/1 or graded rewards."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = int(rng.choice([2, 3, 4, 8, 30, 120]))
        shape = rng.integers(3)
        if shape == 0:
            z = rng.normal(size=size) * rng.uniform(0.05, 6)
        elif shape == 1:  # one likely answer above a flat rest
            z = np.where(np.arange(size) == 0, rng.uniform(0, 8), 0.0) + 1e-3 * rng.normal(size=size)
        else:  # two levels
            z = np.where(rng.random(size) < 0.5, rng.uniform(0, 5), 0.0) + 1e-3 * rng.normal(size=size)
        if rng.random() < 0.5 if graded is None else graded:
            w = rng.random(size) ** rng.uniform(0.2, 5)
        else:
            w = (rng.random(size) < (rng.uniform(0.05, 0.95) if rewarded is None else rewarded)).astype(float)
        yield Tabular(z, w)


def test_lemma_likely_answers_have_the_sign_that_narrows():
    """Cov_pi(pi, log pi) >= 0, and m changes sign once in pi, at p* > e^-H."""
    for case in trials(1, 2000):
        p, h, m = np.exp(case.logp), entropy(case.z), case.m
        assert p @ (p * case.logp) - (p @ p) * (p @ case.logp) >= -1e-15
        threshold = case.threshold
        assert threshold > np.exp(-h)
        signs = np.sign(np.where(np.abs(m) < 1e-14, 0, m))[np.argsort(p)]
        signs = signs[signs != 0]
        assert (np.diff(signs) >= 0).all()
        assert {-1.0, 1.0} <= set(signs)
        assert (m[p > threshold * (1 + 1e-9)] > -1e-15).all()
        assert (m[p < threshold * (1 - 1e-9)] < 1e-15).all()


def test_lemma_is_an_equality_for_the_uniform_policy():
    uniform = Tabular(np.zeros(7), np.ones(7))
    assert np.abs(uniform.m).max() < 1e-15
    assert uniform.threshold == pytest.approx(np.exp(-entropy(uniform.z)))


def test_theorem_heating_raises_the_entropy_change_of_positives_wherever_it_is_negative():
    """Sum form, T >= 1: dH(T) < 0 implies d dH / dT > 0, and dH(1) < 0 implies dH(T) > dH(1) for T > 1."""
    falling = 0
    rng = np.random.default_rng(2)
    for case in trials(3, 3000):
        for temperature in (1.0, 1.2, float(rng.uniform(1, 4)), float(rng.uniform(4, 50))):
            change = case.change(temperature)
            q = case.q(temperature)
            slope = -float((q * (q @ case.z - case.z) / temperature**2) @ (case.w * case.m))
            if change < -1e-12:
                falling += 1
                assert slope > 0
            if temperature > 1 and case.change(1.0) < -1e-12:
                assert change > case.change(1.0)
    assert falling > 2000


def test_below_temperature_one_the_theorem_is_only_a_tendency():
    checked = broken = 0
    for case in trials(4, 4000):
        q = case.q(0.7)
        slope = -float((q * (q @ case.z - case.z)) @ (case.w * case.m))
        if case.change(0.7) < -1e-12:
            checked += 1
            broken += slope <= 0
    assert checked > 1000
    assert broken <= 0.03 * checked


def test_hot_negatives_lower_entropy_nearly_always():
    """A frequency, not a theorem. Gaussian logits, one answer in seven right, T = 3."""
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(3000):
        size = int(rng.integers(3, 60))
        w = (rng.random(size) < 1 / 7).astype(float)
        if (w < 1).any():
            cases.append(Tabular(rng.normal(size=size) * rng.uniform(0.3, 5), w))
    assert 0.97 <= np.mean([case.negatives_change(3.0) < 0 for case in cases]) < 1


def test_heating_lowers_the_entropy_change_of_negatives_nearly_always():
    cases = [case for case in trials(6, 3000) if (case.w < 1).any()]
    for temperature in (1.2, 2.0):
        share = np.mean([case.negatives_change(temperature) < case.negatives_change(1.0) for case in cases])
        assert share >= 0.97


def surprisal_change(case: Tabular, q: Array, rho: float) -> float:
    """N(rho) = sum q w (s / s*)^rho m."""
    return float(q @ (case.w * (-case.logp / -np.log(case.threshold)) ** rho * case.m))


def test_surprisal_theorem_more_weight_on_rare_answers_never_lowers_the_entropy_change():
    """For every sampling distribution q and every reward w: N is non-increasing in rho, dH = -eta N."""
    rng = np.random.default_rng(7)
    rescued = falling = 0
    for case in trials(8, 2000):
        arbitrary = rng.random(len(case.z)) ** 4
        for q in (case.q(float(rng.uniform(0.3, 3))), arbitrary):
            values = np.array([surprisal_change(case, q, rho) for rho in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)])
            assert (np.diff(values) <= 1e-12 * (1 + np.abs(values[1:]))).all()
        first, _, _, second = (surprisal_change(case, case.q(1.0), rho) for rho in (0.0, 0.5, 1.0, 2.0))
        falling += first > 1e-12
        rescued += first > 1e-12 and second < 0
    assert rescued > 0.1 * falling > 0


def test_surprisal_theorem_survives_normalisation():
    """Divided by the total weight of positives: once dH >= 0 it stays so for every larger rho."""
    rng = np.random.default_rng(9)
    rose = 0
    for case in trials(10, 1500):
        q, s = case.q(float(rng.uniform(0.3, 3))), -case.logp
        risen = False
        for rho in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0):
            weights = case.w * s**rho
            if (total := q @ weights) == 0:
                break
            change = -float(q @ (weights * case.m)) / total
            assert not risen or change > -1e-13
            risen = risen or change > 1e-12
        rose += risen
    assert rose > 100


def expected_loss(
    z: torch.Tensor, start: Array, weights: Array, advantages: Array, *, auxiliary: bool
) -> torch.Tensor:
    """The trainer's loss on every answer once, each with its exact expected weight. z: [V] logits."""
    size = len(start)
    logprobs, _ = token_logprobs(
        z.expand(size, size),
        lambda hidden: hidden,
        torch.arange(size),
        torch.ones(size, dtype=torch.float64),
        chunks=2,
        with_entropy=False,
    )
    old = torch.from_numpy(log_softmax(start)).unsqueeze(-1)
    share, none = torch.from_numpy(weights), torch.zeros(size, dtype=torch.float64)
    inputs = LossInputs(
        logprobs=logprobs.unsqueeze(-1),
        proximal_logprobs=old,
        behaviour_logprobs=old,
        mask=torch.ones(size, 1, dtype=torch.float64),
        advantages=torch.from_numpy(advantages).unsqueeze(-1),
        base_weight=none if auxiliary else share,
        auxiliary_weight=share if auxiliary else none,
    )
    return scope_loss(inputs, alpha=1.0, clip_low=0.2, clip_high=0.2, tis_cap=2.0).loss


def entropy_slope(start: Array, weights: Array, advantages: Array, *, auxiliary: bool) -> float:
    """(H after one gradient step of size eta - H after one of size -eta) / 2 eta."""
    eta, moved = 1e-4, []
    for size in (eta, -eta):
        z = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([z], lr=1.0)
        (size * expected_loss(z, start, weights, advantages, auxiliary=auxiliary)).backward()
        optimizer.step()
        moved.append(float(entropy(z.detach().numpy())))
    return (moved[0] - moved[1]) / (2 * eta)


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.2, 2.5])
def test_a_gradient_step_of_the_loss_changes_entropy_by_the_formula(temperature):
    for case in trials(11, 20):
        q, ones = case.q(temperature), np.ones(len(case.z))
        slope = entropy_slope(case.z, q * case.w, ones, auxiliary=True)
        assert slope == pytest.approx(case.change(temperature), rel=1e-4, abs=1e-9)
        negatives = entropy_slope(case.z, q * (1 - case.w), -ones, auxiliary=False)
        assert negatives == pytest.approx(case.negatives_change(temperature), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("rho", [1.0, 2.0])
def test_a_gradient_step_with_surprisal_weights_changes_entropy_by_the_formula(rho):
    for case in trials(12, 20, graded=False):
        surprisal = -case.logp
        scores = surprisal_scores(torch.from_numpy(case.w >= 1), torch.from_numpy(surprisal), rho).numpy()
        slope = entropy_slope(case.z, case.q(1.3) * scores, np.ones(len(case.z)), auxiliary=True)
        assert slope == pytest.approx(case.change(1.3, case.w * surprisal**rho), rel=1e-4, abs=1e-8)
