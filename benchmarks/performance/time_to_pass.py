"""Time to the same held-out pass@1: this system against TRL's GRPOTrainer, both with plain GRPO on the same two cores.

    .venv/bin/python benchmarks/performance/time_to_pass.py

The runs are those of `against_trl.py` on its short task, but ours has no entropy control, so that only the systems
differ. Each side saves its policy every ten steps. Afterwards the same code measures pass@1 of every saved policy, and
the time to a level is interpolated linearly. Times are wall-clock times from the command, and from the end of the first
step; both include saving the policies.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402

from benchmarks.performance.against_trl import (  # noqa: E402
    SHORT,
    TRL,
    Case,
    pass_at_1,
    run_both,
    trl_environment,
    warm_start,
)
from benchmarks.performance.shared import keep  # noqa: E402

LEVELS = (0.25, 0.30, 0.35, 0.40)


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warm", type=int, default=2, help="first steps, excluded from the speeds")
    parser.add_argument("--threads", type=int, default=2, help="threads of TRL")
    options = parser.parse_args()
    python, runs = trl_environment(), []
    for seed in options.seeds:
        case = Case(options.steps, [*SHORT, "entropy_control.kind=none", f"seed={seed}"], keep_every=10)
        with tempfile.TemporaryDirectory(prefix="scope-time-to-pass-") as folder:
            runs.append({"seed": seed, **one(Path(folder), case, python, options)})
        print(
            f"seed {seed}: pass@1 at the end {runs[-1]['trl']['pass@1']:.3f}, {runs[-1]['ours']['pass@1']:.3f}"
        )
    table(runs)
    keep("performance-time-to-pass", {"trl": TRL, "steps": options.steps, "runs": runs})


def one(folder: Path, case: Case, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run both sides with one seed and measure pass@1 of their saved policies."""
    config, sides = run_both(folder, case, case.steps, python, options)
    start = pass_at_1(config, warm_start(config).path)
    for side in sides.values():
        first = side["first_step_seconds"]
        curve = [(first, start), *((at, pass_at_1(config, Path(model))) for at, model in side.pop("kept"))]
        side |= {"curve": curve, "pass@1": curve[-1][1]}
        del side["model"]
        side["seconds_to"] = {level: reached(level, curve) for level in LEVELS}
    return {"start_pass@1": start, **sides}


def reached(level: float, curve: list[tuple[float, float]]) -> float | None:
    """Seconds from the command until pass@1 reaches `level`; None if it does not."""
    for before, point in itertools.pairwise(curve):
        if point[1] >= level:
            return float(np.interp(level, (before[1], point[1]), (before[0], point[0])))
    return None


def table(runs: list[dict[str, Any]]) -> None:
    """Print medians over the seeds, counted from the command and from the end of the first step."""
    print(f"{'pass@1':>8}{'TRL':>10}{'ours':>10}{'without their start':>22}{'ours / TRL':>12}")
    for level in LEVELS:
        whole, after = {}, {}
        for name in ("trl", "ours"):
            found = [run[name]["seconds_to"][level] for run in runs]
            if None in found:
                print(f"{level:>8.2f}  {name}: not reached with every seed")
                break
            whole[name] = statistics.median(found)
            after[name] = statistics.median(
                at - run[name]["first_step_seconds"] for at, run in zip(found, runs, strict=True)
            )
        else:
            apart = f"{after['trl']:>12.1f}{after['ours']:>10.1f}{after['ours'] / after['trl']:>12.2f}"
            print(f"{level:>8.2f}{whole['trl']:>10.1f}{whole['ours']:>10.1f}{apart}")


if __name__ == "__main__":
    main()
