"""Statistics of finished units, as pure functions. Entropies are in nats per token, times in seconds.

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
"""share of a run's last steps on which entropy is compared with its target: 60 of 160"""
AVERAGE_STEPS = 5
RESAMPLES = 4000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Holding:
    """Entropy of one run over its window. Errors are entropy minus target, and None without a target."""

    start: float
    mean: float
    low: float
    high: float
    entropy_target: float | None
    mean_error: float | None
    rms_error: float | None
    """root mean square error of moving averages over `AVERAGE_STEPS` steps within the window"""
    saturated_share: float | None
    unmeasured_steps: int
    """steps of the window without a measured entropy; no field above includes them"""


def window_steps(steps: int) -> int:
    """Return the window of a run of `steps` learner steps, in steps."""
    return max(1, round(WINDOW_SHARE * steps))


def holding(steps: Sequence[StepPoint]) -> Holding:
    """Compare entropy with its target over the window. Raises ValueError when no step of it has an entropy."""
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
    """Moving average over `AVERAGE_STEPS` values, float[n - 4]; over all values when there are fewer."""
    length = min(AVERAGE_STEPS, len(values))
    return np.convolve(values, np.full(length, 1 / length), mode="valid")


def crossed_bootstrap(values: NDArray[np.float64], *, confidence: float = 0.95) -> Interval:
    """Mean of `values`, float64[seeds, problems], with a percentile interval; resamples both axes independently."""
    of_seeds, of_problems = _resamples(*values.shape)
    means = ((of_seeds @ values) * of_problems).sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


@lru_cache(maxsize=4)
def _resamples(seeds: int, problems: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the seeds and of the problems in each resample, float64[RESAMPLES, seeds or problems].

    They are the same for every statistic.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    # Multinomial counts are the same draw as picking with replacement.
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES) / problems
    return of_seeds, of_problems


def at_end(unit: UnitResult, k: int) -> NDArray[np.float64]:
    """Return pass@k of each problem after training, float64[P]."""
    return _pass(unit.evaluations[-1], k)


def at_start(unit: UnitResult, k: int) -> NDArray[np.float64]:
    """Return pass@k of each problem before training, float64[P]."""
    return _pass(unit.evaluations[0], k)


def ks_of(units: Sequence[UnitResult]) -> list[int]:
    """Return 1, 2, 4, … up to the samples that the first and last evaluation of every unit have."""
    return powers_of_two(min(e.samples for u in units for e in (u.evaluations[0], u.evaluations[-1])))


Cost = Callable[[StepPoint], float]


def seconds(step: StepPoint) -> float:
    """Wall clock of a step."""
    return step.seconds


def generated_tokens(step: StepPoint) -> float:
    """Response tokens sampled for a step."""
    return step.generated_tokens


def total(unit: UnitResult, cost: Cost, steps: int | None = None) -> float:
    """Total cost of the first `steps` learner steps, or of all of them when None."""
    return float(sum(cost(step) for step in unit.steps[:steps]))


def at_cost(unit: UnitResult, cost: Cost, budget: float, k: int) -> NDArray[np.float64] | None:
    """Return pass@k of each problem at a training cost of `budget`, float64[P].

    Interpolates linearly between the evaluations before and after. None when the run cost less than `budget`, when it
    has no evaluation between its ends (a line across a whole run is meaningless), or when one of the two has fewer than
    k samples.
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
