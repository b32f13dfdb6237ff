"""SCOPE against every other entropy control, each tuned over its own grid first.

    .venv/bin/python benchmarks/entropy/rivals.py

1. On the tuning seeds: SCOPE over entropy targets, then every rival over the grid of `trainer/config/presets.py`.
2. On the reported seeds: GRPO, SCOPE at its chosen entropy target, and each rival with its chosen value.

Of the values whose pass@1 is at least GRPO's, the one with the highest pass@16 is chosen; if there is none, the one
with the highest pass@1. A control with an entropy target gets the target chosen for SCOPE; if another value of its grid
tracks that target better, this value is run too, as NAME-tracking. Prints the choices and the comparison, and writes
benchmarks/results/entropy-rivals.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import study

from services.compare.results import UnitResult
from services.compare.statistics import at_end, holding
from trainer.config.presets import NAMES, Overrides, as_settings, grid, preset

TARGETS = (0.10, 0.175, 0.24, 0.29, 0.35, 0.41)
"""nats per token; the warm start has 0.58"""
RIVALS = [name for name in NAMES if name not in ("grpo", "scope")]


def main() -> None:
    """Tune, run, report."""
    parser = study.options(__doc__)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--only-tune", action="store_true", help="stop after tuning")
    parser.add_argument("--tuning-seeds", type=int, choices=(1, 2), default=1, help="tuning runs per value")
    options = parser.parse_args()
    tuning: dict[str, Any] = {}
    seeds = study.TUNING_SEEDS[: options.tuning_seeds]

    sweep = {f"scope-{target}": f"entropy_control.target={target}" for target in TARGETS}
    found = _tune([f"{label}@scope:{setting}" for label, setting in sweep.items()], seeds, options.parallel)
    reference = _row(found["grpo"])
    tuning["scope"] = {label: _row(found[label]) for label in sweep}
    best = _choose(tuning["scope"], reference)
    target = float(best.removeprefix("scope-"))

    chosen = {best: _control(best, "scope", [sweep[best]])}
    for name in options.rivals:
        values = {
            f"{name}-{i}": [*_own(name, point), f"entropy_control.target={target}"]
            for i, point in enumerate(grid(name))
        }
        found = _tune([_control(label, name, own) for label, own in values.items()], seeds, options.parallel)
        rows = tuning[name] = {label: _row(found[label]) | {"settings": values[label]} for label in values}
        pick = _choose(rows, reference)
        chosen[name] = _control(name, name, values[pick])
        tracked = {label: row["rms_error"] for label, row in rows.items() if row["rms_error"] is not None}
        closest = min(tracked, key=lambda label: tracked[label]) if tracked else pick
        if closest != pick:
            chosen[f"{name}-tracking"] = _control(f"{name}-tracking", name, values[closest])
    _print_tuning(tuning, reference, chosen, seeds)
    if options.only_tune:
        return

    _, document = study.run(["grpo", *chosen.values()], seeds=options.seeds, parallel=options.parallel)
    tuned = {"tuning": tuning, "tuning_seeds": seeds, "grpo_tuning": reference, "chosen": chosen}
    study.keep(
        "rivals",
        document | tuned | {"made_by": sys.argv},
        ["entropy.png", "pass_at_k.png", "trajectory.png"],
    )


def _tune(controls: Sequence[str], seeds: Sequence[int], parallel: int) -> dict[str, list[UnitResult]]:
    groups, _ = study.run(["grpo", *controls], seeds=len(seeds), first_seed=seeds[0], parallel=parallel)
    return groups


def _control(label: str, name: str, settings: Sequence[str]) -> str:
    return f"{label}@{name}:{','.join(settings)}"


def _own(name: str, point: Overrides) -> list[str]:
    """The settings of a grid point that differ from its preset."""
    base = preset(name)
    return as_settings({field: value for field, value in point.items() if base.get(field) != value})


def _row(units: Sequence[UnitResult]) -> dict[str, Any]:
    """Means over the tuning seeds."""
    held = [holding(unit.steps) for unit in units]
    row: dict[str, float | None] = {
        f"pass@{k}": float(np.mean([at_end(unit, k).mean() for unit in units])) for k in (1, 16)
    }
    for name in ("mean", "mean_error", "rms_error", "saturated_share"):
        values = [getattr(h, name) for h in held]
        row[name] = None if None in values else float(np.mean(values))
    return row


def _choose(rows: Mapping[str, Mapping[str, Any]], grpo: Mapping[str, Any]) -> str:
    able = [label for label, row in rows.items() if row["pass@1"] >= grpo["pass@1"]]
    if able:
        return max(able, key=lambda label: rows[label]["pass@16"])
    return max(rows, key=lambda label: rows[label]["pass@1"])


def _print_tuning(
    tuning: Mapping[str, Mapping[str, Any]],
    grpo: Mapping[str, Any],
    chosen: Mapping[str, str],
    seeds: Sequence[int],
) -> None:
    print(f"\ntuning, seeds {seeds}: pass@1, pass@16, entropy of the last steps, RMS error")
    print(f"{'grpo':24} {grpo['pass@1']:.3f} {grpo['pass@16']:.3f} {grpo['mean']:.3f}")
    for rows in tuning.values():
        for label, row in rows.items():
            error = "" if row["rms_error"] is None else f"{row['rms_error']:.3f}"
            settings = ", ".join(row.get("settings", []))
            print(
                f"{label:24} {row['pass@1']:.3f} {row['pass@16']:.3f} {row['mean']:.3f} {error:5} {settings}"
            )
    print("chosen:", *chosen.values(), sep="\n  ")


if __name__ == "__main__":
    main()
