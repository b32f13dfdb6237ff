"""Entropy control of a pretrained language model: SmolLM2-135M on sums in words, in one process or on the full system.

    .venv/bin/python benchmarks/entropy/language_model.py
    .venv/bin/python benchmarks/entropy/language_model.py --only grpo     # one control at a time
    .venv/bin/python benchmarks/entropy/language_model.py --full          # one run through the services

Prints the comparison and writes benchmarks/results/entropy-language-model.json, with --full
entropy-language-model-full.json. A run in one process takes one or two hours on one thread. It saves itself every five
minutes: stopped by Ctrl-C, SIGTERM or a crash, it continues from there with the same command.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import study
import torch
from language_model_start import CONFIG, make_start

from services.compare.results import StepPoint, UnitResult

UNITS = study.REPOSITORY / "runs" / "entropy-lm"
FULL_UNITS = study.REPOSITORY / "runs" / "entropy-lm-full"
LOW, HIGH = 0.5, 0.7
"""entropy targets, nats per token"""
LIVE_STEP = 50
"""learner step at which the live target rises from LOW to HIGH"""
LIVE = ",".join(
    [
        f"entropy_control.target={LOW}",
        "entropy_control.schedule.kind=step",
        f"entropy_control.schedule.points=[[{LIVE_STEP},{HIGH}]]",
    ]
)
CONTROLS = {
    "grpo": "grpo",
    "low": f"low@scope:entropy_control.target={LOW}",
    "high": f"high@scope:entropy_control.target={HIGH}",
    "live": f"live@scope:{LIVE}",
    "coefficient": f"coefficient@adaptive_coefficient:entropy_control.target={HIGH}",
}
FULL = "high"
"""the control that runs through the services"""
LAST = 0.5
"""share of the steps, at the end of a run, that the table describes"""
PICTURES = ("entropy.png", "actuators.png", "pass_at_k.png")


def main() -> None:
    """Make the start, run the missing units, then report."""
    parser = study.options(__doc__)
    parser.set_defaults(seeds=1, parallel=1)
    parser.add_argument("--only", choices=CONTROLS, action="append", help="a control to run; repeat for more")
    parser.add_argument("--full", action="store_true", help=f"run the control {FULL} on the full system")
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_start()
    chosen = [FULL] if options.full else options.only or list(CONTROLS)
    groups, document = study.run(
        [CONTROLS[name] for name in chosen],
        seeds=options.seeds,
        parallel=options.parallel,
        config=CONFIG,
        units=FULL_UNITS if options.full else UNITS,
        in_process=not options.full,
        # The configured gain is that of Countdown; here the law measures it.
        settings=(),
    )
    document |= {"learning": report(groups), "made_by": sys.argv}
    if options.full:
        study.keep("language-model-full", document, units=FULL_UNITS)
    elif not options.only:
        study.keep("language-model", document, PICTURES, units=UNITS)


def report(groups: dict[str, list[UnitResult]]) -> dict[str, list[dict[str, Any]]]:
    """Print what the auxiliary loss learned from, and where the law was at a limit. Returns it by label and seed."""
    found = {
        label: [learning(unit.steps[-round(LAST * len(unit.steps)) :]) for unit in units]
        for label, units in groups.items()
    }
    print(f"\nmeans over the last {LAST:.0%} of the steps, first seed")
    names = list(dict.fromkeys(name for rows in found.values() for name in rows[0] if name != "limits"))
    print(f"{'':34}" + "".join(f"{label:>13}" for label in found))
    for name in names:
        values = (rows[0][name] for rows in found.values())
        print(f"{name:34}" + "".join(f"{'–' if v is None else f'{v:z.3f}':>13}" for v in values))
    for label, rows in found.items():
        print(f"{label}: limits {rows[0]['limits']}")
    return found


def learning(steps: Sequence[StepPoint]) -> dict[str, Any]:
    """Means over `steps` of actuators, samples and lengths; None where nothing was measured. `limits`: their shares."""
    names = ("temperature", "alpha", "surprisal_exponent", "reward", "adaptive_reward", "positives")
    names += ("auxiliary_positives", "auxiliary_effective", "auxiliary_largest_share")
    names += (
        "auxiliary_length",
        "auxiliary_weighted_length",
        "response_length",
        "generated_tokens",
        "seconds",
    )
    row: dict[str, Any] = {}
    for name in names:
        values = [value for step in steps if (value := getattr(step, name)) is not None]
        row[name] = float(np.nanmean(values)) if values else None
    counts = Counter(step.limit for step in steps if step.limit is not None)
    row["limits"] = {limit: round(count / len(steps), 3) for limit, count in counts.items()}
    return row


if __name__ == "__main__":
    main()
