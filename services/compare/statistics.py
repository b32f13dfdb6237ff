"""Statistics of finished units; pure. Entropies are nats per token, times seconds.

Intervals of pass@k come from a crossed bootstrap (Owen 2007, "The pigeonhole bootstrap", arXiv 0712.1111): a
resample draws seeds with replacement and, independently, problems with replacement, the same problems for every
drawn seed, because all seeds answer the same held-out problems. A difference between two controls, or between end
and start, is taken for each (seed, problem) first and then resampled, so that it is paired in both. With one seed
the intervals cover the choice of problems only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.compare.plan import powers_of_two
from services.compare.results import EvaluationPoint, StepPoint, UnitResult
from trainer.pass_at_k import Interval, pass_at_k

WINDOW_SHARE = 0.375
"""of a run's steps, its last, on which holding is judged: 60 of 160"""
AVERAGE_STEPS = 5
RESAMPLES = 4000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Holding:
    """How one run held its entropy over its window; errors are entropy minus target. None without one."""

    start: float
    mean: float
    low: float
    high: float
    entropy_target: float | None
    mean_error: float | None
    rms_error: float | None
    """of moving averages over `AVERAGE_STEPS` steps that lie within the window"""
    saturated_share: float | None
    unmeasured_steps: int
    """of the window, left out of everything above"""


def window_steps(steps: int) -> int:
    """Length of the window of a run of `steps`."""
    return max(1, round(WINDOW_SHARE * steps))


def holding(steps: Sequence[StepPoint]) -> Holding:
    """Raises ValueError where not one step of the window has an entropy."""
    window = steps[-window_steps(len(steps)) :]
    known = [s for s in window if s.entropy is not None]
    if not known:
        raise ValueError(f"none of the last {len(window)} steps has a measured entropy")
    entropies = np.array([s.entropy for s in known])
    start = next(s.entropy for s in steps if s.entropy is not None)
    steered = [
        (s.entropy, s.entropy_target) for s in known if s.entropy is not None and s.entropy_target is not None
    ]
    targets = np.array([target for _, target in steered])
    errors = np.array([entropy for entropy, _ in steered]) - targets
    return Holding(
        start=start,
        mean=float(entropies.mean()),
        low=float(entropies.min()),
        high=float(entropies.max()),
        entropy_target=float(targets.mean()) if steered else None,
        mean_error=float(errors.mean()) if steered else None,
        rms_error=float(np.sqrt((moving_average(errors) ** 2).mean())) if steered else None,
        saturated_share=float(np.mean([s.saturated for s in known])) if steered else None,
        unmeasured_steps=len(window) - len(known),
    )


def moving_average(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Means of `AVERAGE_STEPS` neighbours, float[n - 4]; of all where there are fewer."""
    length = min(AVERAGE_STEPS, len(values))
    return np.convolve(values, np.full(length, 1 / length), mode="valid")


def crossed_bootstrap(values: NDArray[np.float64], *, confidence: float = 0.95) -> Interval:
    """Mean of float64[seeds, problems] and its percentile interval, resampling both axes independently."""
    of_seeds, of_problems = _resamples(*values.shape)
    means = ((of_seeds @ values) * of_problems).sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


@lru_cache(maxsize=4)
def _resamples(seeds: int, problems: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of seeds, float64[RESAMPLES, seeds], and of problems in each resample; the same for every statistic."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    # counts of each seed and problem in a resample: the same draw as picking with replacement
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES) / problems
    return of_seeds, of_problems


def at_end(unit: UnitResult, k: int) -> NDArray[np.float64]:
    """pass@k of each problem after training, float64[P]."""
    return _pass(unit.evaluations[-1], k)


def at_start(unit: UnitResult, k: int) -> NDArray[np.float64]:
    """pass@k of each problem before training, float64[P]."""
    return _pass(unit.evaluations[0], k)


def ks_of(units: Sequence[UnitResult]) -> list[int]:
    """1, 2, 4, … as far as the evaluations at both ends of every unit allow."""
    return powers_of_two(min(e.samples for u in units for e in (u.evaluations[0], u.evaluations[-1])))


Cost = Callable[[StepPoint], float]


def seconds(step: StepPoint) -> float:
    """Wall clock of a step."""
    return step.seconds


def generated_tokens(step: StepPoint) -> float:
    """Response tokens sampled for a step."""
    return step.generated_tokens


def total(unit: UnitResult, cost: Cost, steps: int | None = None) -> float:
    """What the first `steps` learner steps cost; all of them when None."""
    return float(sum(cost(step) for step in unit.steps[:steps]))


def at_cost(unit: UnitResult, cost: Cost, budget: float, k: int) -> NDArray[np.float64] | None:
    """pass@k of each problem once training had cost `budget`, float64[P].

    Interpolated linearly between the evaluations before and after. None where `budget` is more than the run cost,
    where these two are the ends of the run (a line across a whole run says nothing), or have fewer than k samples.
    """
    spent = [total(unit, cost, e.step) for e in unit.evaluations]
    if np.isclose(budget, spent[-1], rtol=1e-9):
        return at_end(unit, k)
    if len(spent) < 3:
        return None
    points = list(zip(spent, unit.evaluations, strict=True))
    for (low, before), (high, after) in pairwise(points):
        if low <= budget < high:
            if k > min(before.samples, after.samples):
                return None
            share = (budget - low) / (high - low)
            return (1 - share) * _pass(before, k) + share * _pass(after, k)
    return None


def _pass(evaluation: EvaluationPoint, k: int) -> NDArray[np.float64]:
    return pass_at_k(evaluation.samples, evaluation.correct, k)
