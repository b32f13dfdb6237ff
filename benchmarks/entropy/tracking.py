"""How well entropy follows its target, over seeds: targets held at several levels, and a target stepped live.

    .venv/bin/python benchmarks/entropy/tracking.py

Prints the tables and writes benchmarks/results/entropy-tracking.json. The gains were chosen on seeds 1 and 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import study

from services.compare.results import StepPoint, UnitResult
from services.compare.statistics import holding, moving_average

BAND = 0.04
"""nats; a live step has settled once the 5-step average of the error stays within this band"""
UP, DOWN = 60, 110
"""learner steps at which the target changes by +0.12 and -0.12 nats (the live steps)"""
LIVE = ",".join(
    [
        "entropy_control.target=0.29",
        "entropy_control.schedule.kind=step",
        f"entropy_control.schedule.points=[[{UP},0.41],[{DOWN},0.29]]",
    ]
)
CONTROLS = [
    "grpo",
    *(f"held-{target}@scope:entropy_control.target={target}" for target in (0.175, 0.29, 0.41)),
    f"live@scope:{LIVE}",
]


def main() -> None:
    """Run the missing units, then report."""
    options = study.options(__doc__).parse_args()
    groups, document = study.run(CONTROLS, seeds=options.seeds, parallel=options.parallel)
    study.keep("tracking", document | {"live": report(groups), "made_by": sys.argv}, ["entropy.png"])


def report(groups: dict[str, list[UnitResult]]) -> dict[str, list[dict[str, Any]]]:
    """Print tracking over the last steps, the response to live steps and how much the actuators move.

    Means over seeds, worst seed in brackets. Returns the responses of each run (`live`), by label.
    """
    lives = {label: [live(u) for u in units] for label, units in groups.items() if label.startswith("live")}
    print(
        f"\n{'held':24} {'target':>9} {'entropy':>8} {'mean error':>16} {'RMS of average':>17} {'saturated':>10} "
        f"{'|dT|':>7} {'|d alpha|':>9}"
    )
    for label, units in groups.items():
        if not label.startswith("held"):
            continue
        held = [holding(unit.steps) for unit in units]
        error = [h.mean_error or 0.0 for h in held]
        rms = [h.rms_error or 0.0 for h in held]
        print(
            f"{label:24} {held[0].entropy_target:9.3f} {np.mean([h.mean for h in held]):8.3f} "
            f"{np.mean(error):+7.3f} [{max(error, key=abs):+.3f}] {np.mean(rms):9.3f} [{max(rms):.3f}] "
            f"{np.mean([h.saturated_share or 0.0 for h in held]):9.0%} {moves(units)}"
        )
    print(f"\nlive steps of 0.12 nats: learner steps until the 5-step average stays within {BAND}; overshoot")
    for label, found in lives.items():
        for direction in ("up", "down"):
            settled = [row[direction]["settled"] for row in found]
            over = [row[direction]["overshoot"] for row in found]
            mean = np.mean([row[direction]["average"] for row in found], axis=0)
            print(
                f"{label:24} {direction:5} settled {np.mean(settled):5.1f} [{max(settled)}]   overshoot "
                f"{np.mean(over):4.0%} [{max(over):.0%}], of the mean over seeds {max(0.0, mean.max()):.0%}"
            )
        print(f"{label:24} |dT|, |d alpha| {moves(groups[label])}")
    return lives


def moves(units: Sequence[UnitResult]) -> str:
    """Mean absolute change a step of temperature and alpha over whole runs."""
    changes = [np.abs(np.diff([(s.temperature, s.alpha) for s in u.steps], axis=0)).mean(0) for u in units]
    temperature, alpha = np.mean(changes, axis=0)
    return f"{temperature:7.3f} {alpha:9.3f}"


def live(unit: UnitResult) -> dict[str, Any]:
    """Settling (learner steps) and overshoot of both live steps; a window ends at the next live step or with the run.

    `average` is the 5-step average of the error divided by the change of the target, so that overshoot is positive.
    """
    found = {}
    for name, begin, end in (("up", UP, DOWN), ("down", DOWN, len(unit.steps))):
        target, before = _entropy_target(unit.steps[begin]), _entropy_target(unit.steps[begin - 1])
        error = moving_average(_entropy(unit.steps[begin - 4 : end])) - target
        outside = np.flatnonzero(np.abs(error) > BAND)
        average = error / (target - before)
        found[name] = {
            "settled": int(outside[-1]) + 1 if len(outside) else 0,
            "overshoot": float(max(0.0, average.max())),
            "average": [round(float(value), 4) for value in average],
        }
    return found


def _entropy_target(step: StepPoint) -> float:
    assert step.entropy_target is not None, "a live run has an entropy target at every step"
    return step.entropy_target


def _entropy(steps: Sequence[StepPoint]) -> np.ndarray:
    return np.array([step.entropy for step in steps], dtype=np.float64)


if __name__ == "__main__":
    main()
