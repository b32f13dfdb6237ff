"""pass@k against exact combinatorics, and the properties of the bootstrap interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.pass_at_k import bootstrap_difference, bootstrap_mean, pass_at_k


@st.composite
def draws(draw: st.DrawFn) -> tuple[int, int, int]:
    samples = draw(st.integers(1, 60))
    return samples, draw(st.integers(0, samples)), draw(st.integers(1, samples))


@settings(deadline=None)
@given(draws())
def test_it_equals_the_exact_combinatorial_estimator(draw: tuple[int, int, int]) -> None:
    n, c, k = draw
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert pass_at_k(n, [c], k)[0] == pytest.approx(exact, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.data())
def test_it_is_unbiased(n: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    counts = np.arange(n + 1)
    probability = np.array([math.comb(n, int(c)) * p**c * (1 - p) ** (n - c) for c in counts])
    assert probability @ pass_at_k(n, counts, k) == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_pass_at_1_is_the_mean_and_pass_at_n_is_any() -> None:
    counts = [0, 1, 3, 8]
    assert pass_at_k(8, counts, 1) == pytest.approx([0, 1 / 8, 3 / 8, 1])
    assert pass_at_k(8, counts, 8) == pytest.approx([0, 1, 1, 1])


def test_it_stays_finite_where_binomials_overflow() -> None:
    values = pass_at_k(100_000, [0, 1, 100, 99_999], 1024)
    assert values == pytest.approx([0, 0.01024, 1 - math.exp(100 * math.log1p(-0.01024)), 1], abs=1e-3)


@pytest.mark.parametrize(("n", "c", "k"), [(4, [1], 0), (4, [1], 5), (4, [5], 2), (4, [-1], 2)])
def test_impossible_counts_are_refused(n: int, c: list[int], k: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        pass_at_k(n, c, k)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 2**32))
def test_the_interval_encloses_the_mean_and_follows_the_seed(values: list[float], seed: int) -> None:
    interval = bootstrap_mean(values, seed=seed, resamples=200)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval.mean == pytest.approx(np.mean(values))
    assert interval == bootstrap_mean(values, seed=seed, resamples=200)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(400):
        interval = bootstrap_mean(rng.random(100) < 0.3, seed=trial, confidence=0.9, resamples=500)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.85 <= hits / 400 <= 0.95


def test_pairing_removes_the_differences_between_problems() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(200)
    after = before + 0.05 + 0.01 * rng.standard_normal(200)
    paired = bootstrap_difference(before, after, seed=0)
    assert 0.04 < paired.low < paired.mean < paired.high < 0.06
    alone = bootstrap_mean(after, seed=0)
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_a_difference_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="same problems"):
        bootstrap_difference([0.1, 0.2], [0.1], seed=0)


@pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([0.5], 0.0), ([0.5], 1.0), ([[0.5]], 0.9)])
def test_a_meaningless_interval_is_refused(values: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match="must"):
        bootstrap_mean(values, seed=0, confidence=confidence)
