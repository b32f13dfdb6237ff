"""What each part of the control law contributes: the live run of `tracking.py` with one part changed at a time.

    .venv/bin/python benchmarks/entropy/ablation.py --seeds 2 [--parts live no-derivative ...]

Prints tracking, settling and pass@k of each variant and writes benchmarks/results/entropy-ablation.json. The measured
gain is switched on in its variants, because it is off in all other runs (`study.FIXED_GAIN`).
"""

from __future__ import annotations

import sys

import numpy as np
import study
from tracking import DOWN, LIVE, UP, live

from services.compare.results import UnitResult
from services.compare.statistics import at_end, moving_average

SETTLE = 30
"""learner steps after a live step that the RMS error excludes"""
LAW = "entropy_control.split_range"
PARTS = {
    "live": [],
    "no-derivative": [f"{LAW}.lag_steps=0"],
    "no-governor": [f"{LAW}.ramp=10", f"{LAW}.lead=10"],
    "no-back-calculation": [f"{LAW}.back_calculation=0"],
    "no-temperature": [f"{LAW}.t_min=1", f"{LAW}.t_max=1"],
    "no-cold-samples": [f"{LAW}.t_min=1"],
    "no-surprisal-weights": [f"{LAW}.surprisal_exponent=0", f"{LAW}.surprisal_exponent_max=0"],
    "constant-alpha": [f"{LAW}.alpha=1", f"{LAW}.alpha_max=1"],
    "weights-by-sum": ["entropy_control.normalization=sum"],
    "half-the-samples": ["rollout.adaptive_samples=4"],
    "twice-the-samples": ["rollout.adaptive_samples=16"],
    "negatives": ["entropy_control.samples=negatives"],
    "learning-rate-1e-4": ["optimizer.learning_rate=1e-4"],
    "learning-rate-4e-4": ["optimizer.learning_rate=4e-4"],
    "measured-gain": [f"{LAW}.gain_memory=60"],
    "measured-gain-4e-4": [f"{LAW}.gain_memory=60", "optimizer.learning_rate=4e-4"],
}
RESTING = (slice(UP + SETTLE, DOWN), slice(DOWN + SETTLE, None))
"""learner steps over which the RMS error is taken: those at least `SETTLE` steps after a live step"""


def main() -> None:
    """Run the missing units, then report."""
    parser = study.options(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    controls = [f"{label}@scope:{','.join([LIVE, *PARTS[label]])}" for label in options.parts]
    groups, document = study.run(controls, seeds=options.seeds, parallel=options.parallel)
    report(groups)
    document |= {"live": {label: [live(unit) for unit in units] for label, units in groups.items()}}
    study.keep("ablation", document | {"made_by": sys.argv})


def report(groups: dict[str, list[UnitResult]]) -> None:
    """Print a row for each variant: means over seeds, and in brackets the slowest settling of any seed."""
    print(
        f"\n{'':22} {'RMS':>6} {'saturated':>9} {'settled up / down':>22} {'overshoot':>11} {'pass@1':>7} {'@16':>6}"
    )
    for label, units in groups.items():
        found = [live(unit) for unit in units]
        errors = [moving_average(_errors(unit)[rows]) for unit in units for rows in RESTING]
        passes = [np.mean([at_end(unit, k).mean() for unit in units]) for k in (1, 16)]
        up, down = ([row[way]["settled"] for row in found] for way in ("up", "down"))
        over = [[row[way]["overshoot"] for row in found] for way in ("up", "down")]
        saturated = np.mean([s.saturated for unit in units for s in unit.steps[20:]])
        print(
            f"{label:22} {np.sqrt(np.mean(np.square(errors))):6.3f} {saturated:9.0%} "
            f"{np.mean(up):6.0f} [{max(up)}] {np.mean(down):5.0f} [{max(down)}] "
            f"{np.mean(over[0]):5.0%} {np.mean(over[1]):5.0%} "
            f"{passes[0]:7.3f} {passes[1]:6.3f}"
        )


def _errors(unit: UnitResult) -> np.ndarray:
    pairs = [(step.entropy, step.entropy_target) for step in unit.steps]
    return np.array(
        [entropy - target for entropy, target in pairs if entropy is not None and target is not None]
    )


if __name__ == "__main__":
    main()
