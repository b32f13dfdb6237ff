"""Time from the command to the first learner step, by phase, and the time that the small commands take.

    .venv/bin/python benchmarks/performance/startup.py

Runs the quickstart, with its starting model from the cache, until its third step, pauses it, times `scope status` on
the idle machine, and stops it. `scope --help` is timed before the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

from benchmarks.performance.shared import REPOSITORY, keep  # noqa: E402

SCOPE = [sys.executable, "-m", "services.cli"]
CONFIG = "deploy/configs/countdown-cpu.yaml"
PHASES = (
    ("starting Ray", "command, Redis, starting model"),
    ("starting 2 generators", "Ray"),
    ("control plane", "control plane, beside the engines"),
    ("evaluating step 0", "the rest of the engines' start"),
    ("held-out pass@1", "evaluation of the start"),
    ("step 1", "learner, and its first step"),
)
"""beginning of the message that ends a phase, and the phase"""


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=7, help="calls of each small command; the median counts")
    options = parser.parse_args()
    help_seconds = [timed(["--help"]) for _ in range(options.calls)]
    with tempfile.TemporaryDirectory(prefix="scope-startup-") as folder:
        phases, status_seconds = one_run(Path(folder), options.calls)
    document = {
        "phases_seconds": phases,
        "first_step_seconds": sum(phases.values()),
        "help_seconds": help_seconds,
        "status_seconds": status_seconds,
        "median": {"help": statistics.median(help_seconds), "status": statistics.median(status_seconds)},
    }
    table(document)
    keep("performance-startup", document)


def timed(arguments: list[str]) -> float:
    """Seconds of one command, including the start of Python."""
    started = time.perf_counter()
    subprocess.run([*SCOPE, *arguments], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def one_run(runs_dir: Path, calls: int) -> tuple[dict[str, float], list[float]]:
    """Seconds of each phase of a run, and of `scope status` while it is paused."""
    command = [*SCOPE, "train", CONFIG, "--run-id", "startup", "--log-format", "json"]
    run, started = ["--run", str(runs_dir / "startup")], time.time()
    process = subprocess.Popen(
        [*command, "--set", f"runs_dir={runs_dir}"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        phases = dict(read_phases(process, started))
        timed(["pause", *run])
        time.sleep(5)
        status = [timed(["status", *run]) for _ in range(calls)]
        timed(["stop", *run])
        process.communicate(timeout=120)
    finally:
        process.kill()
    return phases, status


def read_phases(process: subprocess.Popen[str], started: float) -> Iterator[tuple[str, float]]:
    """Each phase and its seconds, from the run's output, until step 3. Raises SystemExit if the run ends before it."""
    assert process.stdout is not None
    wanted = iter(PHASES)
    sign, phase = next(wanted)
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        text = f"step {event['step'] + 1}" if event.get("event") == "step" else event.get("text", "")
        if text == "step 3":
            return
        if sign and text.startswith(sign):
            yield phase, event["at"] - started
            started = event["at"]
            sign, phase = next(wanted, ("", ""))
    raise SystemExit("the run ended before its third step; its messages are above")


def table(document: dict[str, Any]) -> None:
    """Print the phases and the commands."""
    for phase, seconds in document["phases_seconds"].items():
        print(f"{phase:36}{seconds:>8.1f} s{seconds / document['first_step_seconds']:>8.0%}")
    print(f"{'from the command to the first step':36}{document['first_step_seconds']:>8.1f} s")
    for command, seconds in document["median"].items():
        print(f"scope {command:30}{seconds:>8.2f} s")


if __name__ == "__main__":
    main()
