"""The unbiased estimator of pass@k, and bootstrap intervals over problems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interval:
    """A mean over problems and its confidence interval."""

    mean: float
    low: float
    high: float


def pass_at_k(samples: int, correct: ArrayLike, k: int) -> NDArray[np.float64]:
    """Unbiased estimate by problem of the probability that at least one of `k` samples is correct.

    samples: n, samples per problem; correct: int[P], how many of them are correct. Returns float64[P],
    1 - C(n - c, k) / C(n, k) in the product form of Chen et al. 2021 (arXiv 2107.03374), which does not
    overflow. Raises ValueError unless 1 <= k <= n and 0 <= c <= n.
    """
    counts = np.asarray(correct, dtype=np.int64)
    if not 1 <= k <= samples:
        raise ValueError(f"k={k} must lie between 1 and samples={samples}")
    if counts.size and not (counts.min() >= 0 and counts.max() <= samples):
        raise ValueError(
            f"correct must lie between 0 and samples={samples}, got {counts.min()}..{counts.max()}"
        )
    # C(n - c, k) / C(n, k) = prod over i = n - c + 1 .. n of max(0, 1 - k / i)
    factors = np.maximum(1.0 - k / np.arange(1, samples + 1), 0.0)
    from_the_end = np.concatenate([[1.0], np.cumprod(factors[::-1])])
    return 1.0 - from_the_end[counts]


def bootstrap_mean(
    values: ArrayLike, *, seed: int, confidence: float = 0.95, resamples: int = 4000
) -> Interval:
    """Mean of float[P] and its percentile bootstrap interval, resampling problems.

    Raises ValueError for no values, or a confidence outside (0, 1).
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size:
        raise ValueError(f"values must be a non-empty vector, got shape {data.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie strictly between 0 and 1")
    rng = np.random.default_rng(seed)
    # Counts of each problem per resample, equivalent to drawing P problems with replacement.
    weights = rng.multinomial(data.size, np.full(data.size, 1 / data.size), size=resamples)
    means = weights @ data / data.size
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(data.mean()), float(low), float(high))


def bootstrap_difference(
    before: ArrayLike, after: ArrayLike, *, seed: int, confidence: float = 0.95, resamples: int = 4000
) -> Interval:
    """Mean of after - before over the same problems, float[P] each, with its paired bootstrap interval.

    Raises ValueError if their lengths differ.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"before and after must be of the same problems, got {first.shape} and {second.shape}"
        )
    return bootstrap_mean(second - first, seed=seed, confidence=confidence, resamples=resamples)
