"""Inject faults into a long run: recovery time after each kind, lost throughput, groups lost or applied twice.

.venv/bin/python benchmarks/chaos.py --faults 100
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.chaos.ledger import violations  # noqa: E402
from tests.chaos.nemesis import Nemesis, Strike  # noqa: E402
from tests.chaos.subject import Subject, chaos_run  # noqa: E402

START_STEPS, CALM_STEPS = 5, 40
"""learner steps before any measurement, and those over which undisturbed throughput is measured"""
LONGEST_SECONDS, GRACE_SECONDS = 900.0, 120.0


def main() -> int:
    """Run the campaign. Returns 1 if a guarantee was violated or something was left behind, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument(
        "--hours", type=float, default=1.0, help="minimum duration; the run continues after its last fault"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "chaos.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-chaos-") as folder:
        subject = Subject(chaos_run(Path(folder) / "runs", "chaos"))
        try:
            document = campaign(subject, options.faults, options.hours, options.seed)
        finally:
            subject.kill()
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {options.out}")
    return 1 if document["violations"] or document["left_behind"] else 0


def campaign(subject: Subject, faults: int, hours: float, seed: int) -> dict[str, Any]:
    """Measure undisturbed throughput, inject the faults, stop the run by SIGTERM, and check the guarantees."""
    subject.await_step(START_STEPS, LONGEST_SECONDS)
    calm, _ = timed(lambda: subject.await_step(START_STEPS + CALM_STEPS, LONGEST_SECONDS))
    calm_rate = CALM_STEPS / calm
    print(f"undisturbed: {calm_rate:.2f} learner steps/s", flush=True)
    strikes: list[Strike] = []
    first_step, started = subject.steps_done(), time.monotonic()
    for strike in Nemesis(subject, seed, recovery_seconds=LONGEST_SECONDS).campaign(faults):
        strikes.append(strike)
        print(
            f"{len(strikes):4}/{faults} {strike.kind:20} at step {strike.at_step:6}: "
            f"recovered after {strike.recovery_seconds:6.1f} s",
            flush=True,
        )
    while time.monotonic() - started < 3600 * hours:
        subject.await_step(subject.steps_done() + 1, LONGEST_SECONDS)
    seconds, steps = time.monotonic() - started, subject.steps_done() - first_step
    stopping, status = timed(lambda: subject.preempt(GRACE_SECONDS))
    left_behind = subject.leftovers()
    evidence = subject.evidence()
    broken = violations(evidence)
    document = {
        "faults": faults,
        "seed": seed,
        "cores": os.cpu_count(),
        "hours": seconds / 3600,
        "steps": steps,
        "lineages": len({event.lineage for event in evidence.applied}),
        "groups_accepted": len({event.group for event in evidence.offered if event.outcome != "offered"}),
        "dead_lettered": len(evidence.dead_lettered),
        "lost": sum("was lost" in sentence for sentence in broken),
        "twice": sum("applied twice" in sentence for sentence in broken),
        "violations": broken,
        "left_behind": left_behind,
        "steps_per_second_undisturbed": calm_rate,
        "throughput_lost": 1 - steps / seconds / calm_rate,
        "sigterm": {"seconds": stopping, "exit_status": status},
        "recovery_seconds": by_kind(strikes),
    }
    for kind, times in document["recovery_seconds"].items():
        print(
            f"{kind:20} {times['faults']:4} faults, median {times['median']:6.1f} s, max {times['max']:6.1f} s"
        )
    print(
        f"{steps} steps in {seconds / 60:.1f} min, throughput lost {document['throughput_lost']:.0%}; "
        f"{document['groups_accepted']} groups accepted, {document['lost']} lost, {document['twice']} applied twice, "
        f"{document['dead_lettered']} dead-lettered; SIGTERM: exit {status} after {stopping:.1f} s"
    )
    for sentence in [*broken, *left_behind]:
        print(f"violation: {sentence}")
    return document


def by_kind(strikes: list[Strike]) -> dict[str, dict[str, float]]:
    """Number of faults of each kind, and their median and longest recovery, in seconds."""
    times = {
        kind: [strike.recovery_seconds for strike in strikes if strike.kind == kind]
        for kind in sorted({strike.kind for strike in strikes})
    }
    return {
        kind: {"faults": len(found), "median": statistics.median(found), "max": max(found)}
        for kind, found in times.items()
    }


def timed(action: Any) -> tuple[float, Any]:
    """Seconds that `action` took, and what it returned."""
    started = time.monotonic()
    result = action()
    return time.monotonic() - started, result


if __name__ == "__main__":
    sys.exit(main())
