"""Do generation and learning overlap? An asynchronous run against one that takes turns, each part on its own core.

    .venv/bin/python benchmarks/performance/pipeline.py

The learner has the last core, everything else the others. With `pipeline.max_staleness=0` generators and learner take
turns, so a step shows how long each takes alone: g is the time the learner waits, l the rest. With staleness 1 a step
should take little more than the longer of the two:

    efficiency = tokens/s of the asynchronous run / tokens/s of the slower part alone
    speed-up   = tokens/s of the asynchronous run / tokens/s of the run that takes turns; at best (g + l) / max(g, l)

There are two asynchronous runs: when new weights arrive, they recompute or keep the key-value caches of rollouts in
flight (`generators.caches_in_flight`). In the run that takes turns no rollout is in flight then.

`balanced` is the task and model of `growth.py`, at a size for which g and l are similar.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

from benchmarks.performance.endless import make_model  # noqa: E402
from benchmarks.performance.growth import SETTINGS as ENDLESS  # noqa: E402
from benchmarks.performance.growth import Case  # noqa: E402
from benchmarks.performance.shared import keep  # noqa: E402
from services.records.step_record import StepRecord  # noqa: E402
from tests.chaos.processes import descendants, processes  # noqa: E402
from tests.chaos.subject import Subject  # noqa: E402
from tests.support.runs.run_harness import new_run  # noqa: E402

START_SECONDS, RUN_SECONDS = 900.0, 1800.0
SETTINGS = [
    "control_plane.enabled=false",
    "ray.dashboard=false",
    "learner.workers=1",
    "evaluation.problems=2",
    "checkpoint.every_steps=500",
]
BALANCED = Case(hidden=512, layers=6)
SIZES = {
    "quickstart": ["rollout.prompts_per_step=32", "rollout.base_samples=16", "rollout.adaptive_samples=16"],
    "few prompts": ["rollout.prompts_per_step=16", "rollout.base_samples=8", "rollout.adaptive_samples=8"],
    "balanced": [*ENDLESS, *BALANCED.settings],
}
MODELS = {"balanced": BALANCED.model}


def document_name(sizes: list[str]) -> str:
    """Name of the document. A subset of the sizes has its own, so that it does not overwrite that of all sizes."""
    parts = [] if sizes == list(SIZES) else [size.replace(" ", "-") for size in sizes]
    return "-".join(["performance-pipeline", *parts])


def main() -> None:
    """Measure the runs of each size, print the table and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--steps", type=int, default=40, help="measured steps, after about ten of warm-up")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this benchmark needs two cores")
    columns = {
        "caches": 11,
        "g": 8,
        "l": 8,
        "turns": 8,
        "async": 8,
        "efficiency": 12,
        "speed-up": 10,
        "at best": 9,
    }
    print(f"{'':14}" + "".join(f"{name:>{width}}" for name, width in columns.items()))
    found: dict[str, dict[str, Any]] = {}
    for size in options.sizes:
        turns, found[size] = measure(size, options.steps, cores, "pipeline.max_staleness=0"), {}
        for caches in ("recompute", "keep"):
            settings = ["pipeline.max_staleness=1", f"generators.caches_in_flight={caches}"]
            overlapped = measure(size, options.steps, cores, *settings)
            found[size][caches] = case = judge(turns, overlapped)
            seconds = f"{case['g_seconds']:>8.2f}{case['l_seconds']:>8.2f}"
            seconds += f"{case['turns_seconds']:>8.2f}{case['asynchronous_seconds']:>8.2f}"
            ratios = f"{case['efficiency']:>12.2f}{case['speed_up']:>10.2f}{case['best_speed_up']:>9.2f}"
            print(f"{size:14}{caches:>11}{seconds}{ratios}", flush=True)
    keep(document_name(options.sizes), {"cores": cores, "steps": options.steps, "sizes": found})


def measure(size: str, steps: int, cores: list[int], *more: str) -> list[StepRecord]:
    """Records of the measured steps of one run; `more` are further settings."""
    settings = [*SETTINGS, *SIZES[size], f"steps={steps + 20}", *more]
    with tempfile.TemporaryDirectory(prefix="scope-pipeline-") as folder:
        if size in MODELS:
            make_model(Path(folder) / "model", MODELS[size])
            settings.append(f"model.path={folder}/model")
        subject = Subject(new_run(Path(folder) / "runs", "pipeline", settings))
        try:
            subject.await_step(3, START_SECONDS)
            pin(subject.driver.pid, cores)
            first = subject.steps_done() + 5
            subject.await_step(first + steps, RUN_SECONDS)
            records = subject.run.records()
            subject.preempt(120)
        finally:
            subject.kill()
    return records[first : first + steps]


def pin(driver: int, cores: list[int]) -> None:
    """Pin learner ranks to the last core and all other processes of the run to the other cores."""
    learners = {pid for rank in processes(driver, "learner") for pid in (rank, *descendants(rank))}
    for pid in (driver, *descendants(driver)):
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores[-1:] if pid in learners else cores[:-1])


def judge(turns: list[StepRecord], overlapped: list[StepRecord]) -> dict[str, Any]:
    """The figures of two runs. Speeds are tokens/s, so that longer responses in one of the runs have no effect."""
    tokens = statistics.mean(r.tokens for r in turns)
    g = statistics.mean(r.wait_seconds for r in turns)
    whole = statistics.mean(r.step_seconds for r in turns)
    together = statistics.mean(r.step_seconds for r in overlapped)
    tokens_together = statistics.mean(r.tokens for r in overlapped)
    slower = max(g, whole - g)
    return {
        "g_seconds": g,
        "l_seconds": whole - g,
        "turns_seconds": whole,
        "asynchronous_seconds": together,
        "tokens_a_step": {"turns": tokens, "asynchronous": tokens_together},
        "efficiency": (tokens_together / together) / (tokens / slower),
        "speed_up": (tokens_together / together) / (tokens / whole),
        "best_speed_up": whole / slower,
    }


if __name__ == "__main__":
    main()
