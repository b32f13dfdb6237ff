"""The figures of `comparison.json`, computed from the units' results by pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.compare import statistics
from services.compare.results import UnitResult
from trainer.pass_at_k import Interval

Groups = Mapping[str, Sequence[UnitResult]]
"""label → its units, the same seeds in the same order for every label; the first label is the baseline"""

COSTS = {"wall_seconds": statistics.seconds, "generated_tokens": statistics.generated_tokens}


def comparison(groups: Groups) -> dict[str, Any]:
    """Compute every statistic of every control, as plain data."""
    everything = [unit for units in groups.values() for unit in units]
    baseline = next(iter(groups))
    ks = statistics.ks_of(everything)
    same_step = min(len(unit.steps) for unit in everything)
    budgets = {name: min(statistics.total(u, cost) for u in everything) for name, cost in COSTS.items()}
    return {
        "baseline": baseline,
        "seeds": [unit.seed for unit in groups[baseline]],
        "problems": len(everything[0].evaluations[0].correct),
        "parallel": max(unit.parallel for unit in everything),
        "samples": min(unit.evaluations[-1].samples for unit in everything),
        "ks": ks,
        "window_steps": {
            label: statistics.window_steps(len(units[0].steps)) for label, units in groups.items()
        },
        "same_step": same_step,
        "budgets": budgets,
        "controls": {
            label: {
                "steps": len(units[0].steps),
                "entropy": _entropy(units),
                "pass": _passes(groups[baseline], units, ks, is_baseline=label == baseline),
                "cost": _cost(units, same_step),
                "at_equal_cost": {
                    name: {"budget": budget, **_at_cost(groups[baseline], units, name, budget, ks)}
                    for name, budget in budgets.items()
                },
            }
            for label, units in groups.items()
        },
    }


def _entropy(units: Sequence[UnitResult]) -> dict[str, Any]:
    by_seed = [statistics.holding(unit.steps) for unit in units]
    fields = ("start", "mean", "entropy_target", "mean_error", "rms_error", "saturated_share")
    return {name: _over_seeds([getattr(h, name) for h in by_seed]) for name in fields} | {
        "low": min(h.low for h in by_seed),
        "high": max(h.high for h in by_seed),
        "by_seed": {unit.seed: asdict(h) for unit, h in zip(units, by_seed, strict=True)},
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "min": min(known), "max": max(known)}


def _passes(
    baseline: Sequence[UnitResult], units: Sequence[UnitResult], ks: Sequence[int], *, is_baseline: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k in ks:
        start, end = _by_seed(units, statistics.at_start, k), _by_seed(units, statistics.at_end, k)
        row = {"start": start, "end": end, "change": end - start}
        if not is_baseline:
            row["difference"] = end - _by_seed(baseline, statistics.at_end, k)
        found[str(k)] = {name: interval_of(values) for name, values in row.items()} | {
            "end_by_seed": {unit.seed: float(row.mean()) for unit, row in zip(units, end, strict=True)}
        }
    return found


def _by_seed(units: Sequence[UnitResult], what: Any, k: int) -> NDArray[np.float64]:
    return np.stack([what(unit, k) for unit in units])


def interval_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean and 95 % interval of float64[seeds, problems], as plain data."""
    interval: Interval = statistics.crossed_bootstrap(values)
    return {"mean": interval.mean, "low95": interval.low, "high95": interval.high}


def _cost(units: Sequence[UnitResult], same_step: int) -> dict[str, Any]:
    found = {
        name: _over_seeds([statistics.total(unit, cost) for unit in units]) for name, cost in COSTS.items()
    }
    to_step = [statistics.total(unit, statistics.generated_tokens, same_step) for unit in units]
    evaluation = _over_seeds([unit.evaluation_seconds for unit in units])
    return {**found, "generated_tokens_to_same_step": _over_seeds(to_step), "evaluation_seconds": evaluation}


def _at_cost(
    baseline: Sequence[UnitResult], units: Sequence[UnitResult], name: str, budget: float, ks: Sequence[int]
) -> dict[str, Any]:
    """pass@k at a budget, for each k that every seed has; empty without evaluations during training."""
    cost = COSTS[name]
    found: dict[str, Any] = {}
    for k in ks:
        mine = [statistics.at_cost(unit, cost, budget, k) for unit in units]
        theirs = [statistics.at_cost(unit, cost, budget, k) for unit in baseline]
        here = [values for values in mine if values is not None]
        there = [values for values in theirs if values is not None]
        if len(here) < len(units):
            continue
        row = {"value": interval_of(np.stack(here))}
        if units is not baseline and len(there) == len(baseline):
            row["difference"] = interval_of(np.stack(here) - np.stack(there))
        found[str(k)] = row
    return {"pass": found}
