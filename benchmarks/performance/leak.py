"""Does memory grow with the steps? Unshared memory of every process of a run, over some thousand learner steps.

.venv/bin/python benchmarks/performance/leak.py [--steps 2000]

Runs the quickstart's model and task with short steps; memory is the unique set size (USS). A line is fitted from a
quarter of the steps on, when caches are full. A process is flat if that line rises by less than `FLAT_SHARE` of its
memory, or by less than `FLAT_BYTES`, until the end. Exits with status 1 if a process is not flat or the run fails.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import psutil  # noqa: E402

from benchmarks.performance.shared import keep  # noqa: E402
from tests.chaos.processes import descendants  # noqa: E402
from tests.chaos.subject import Subject  # noqa: E402
from tests.support.ports import free_ports  # noqa: E402
from tests.support.runs.run_harness import new_run  # noqa: E402

ROLES = {
    "driver": r"services\.cli train|scope train",
    "learner rank": r"^ray::.*TrainWorker",
    "learner's controller": r"^ray::TrainController",
    "generator": r"^ray::(Strict)?Generator",
    "engine core": r"^VLLM::EngineCore",
    "engine worker": r"^VLLM::Worker",
    "control plane": r"^ray::ServeReplica",
    "redis": r"(valkey|redis)-server",
    "raylet": r"/raylet ",
    "gcs": r"/gcs_server ",
}
FLAT_SHARE, FLAT_BYTES = 0.05, 8 << 20
START_SECONDS, SAMPLE_SECONDS = 900.0, 5.0


def main() -> int:
    """Run, sample, fit, print the table and write the document. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-leak-") as folder:
        samples, status = sampled_run(Path(folder), options.steps)
    processes = [fit(name, points, options.steps) for name, points in sorted(samples.items())]
    print(f"{'':28}{'MiB':>9}{'MiB / 1,000 steps':>20}{'to the end':>13}")
    for found in processes:
        growth = f"{found['growth_share']:>12.1%}" + ("" if found["flat"] else "   grows")
        print(f"{found['process']:28}{found['mib']:>9.1f}{found['mib_per_1000_steps']:>20.2f} {growth}")
    keep("performance-leak", {"steps": options.steps, "exit_status": status, "processes": processes})
    return 0 if status == 0 and all(found["flat"] for found in processes) else 1


def sampled_run(folder: Path, steps: int) -> tuple[dict[str, list[tuple[int, int]]], int]:
    """(step, bytes) of every process that lived to the end, by role and number, and the driver's exit status."""
    (port,) = free_ports(1)
    settings = [
        f"steps={steps}",
        f"control_plane.port={port}",
        "ray.dashboard=false",
        "rollout.prompts_per_step=4",
        "rollout.base_samples=4",
        "rollout.adaptive_samples=4",
        "evaluation.problems=2",
        "checkpoint.every_steps=50",
    ]
    subject = Subject(new_run(folder / "runs", "leak", settings))
    samples: dict[int, list[tuple[int, int]]] = {}
    names: dict[int, str] = {}
    try:
        subject.await_step(1, START_SECONDS)
        while subject.driver.poll() is None:
            if (step := subject.steps_done()) == steps:
                # Work at the end of a run, such as plotting, says nothing about growth with the steps.
                time.sleep(SAMPLE_SECONDS)
                continue
            present = {subject.driver.pid, *descendants(subject.driver.pid)}
            for pid in present:
                if (found := measure(pid)) is not None:
                    names[pid], size = found
                    samples.setdefault(pid, []).append((step, size))
            time.sleep(SAMPLE_SECONDS)
        status = subject.driver.wait()
    finally:
        subject.kill()
    longest = max(len(points) for points in samples.values())
    lasting = sorted(pid for pid, points in samples.items() if len(points) > 0.9 * longest)
    numbered: dict[str, list[tuple[int, int]]] = {}
    for pid in lasting:
        others = sum(names[pid] == names[other] for other in lasting if other < pid)
        numbered[f"{names[pid]} {others}"] = samples[pid]
    return numbered, status


def measure(pid: int) -> tuple[str, int] | None:
    """Role and USS in bytes of a process; None if it has ended or has no role."""
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
        role = next((role for role, pattern in ROLES.items() if re.search(pattern, command)), None)
        return None if role is None else (role, process.memory_full_info().uss)
    except psutil.Error:
        return None


def fit(name: str, points: list[tuple[int, int]], steps: int) -> dict[str, Any]:
    """Fit a line to the memory of a process from a quarter of the steps on."""
    late = np.array([point for point in points if point[0] >= steps / 4], dtype=np.float64)
    slope, start = np.polyfit(late[:, 0], late[:, 1], 1)
    growth = slope * (steps - steps / 4)
    size = start + slope * steps / 4
    return {
        "process": name,
        "mib": size / 2**20,
        "mib_per_1000_steps": slope * 1000 / 2**20,
        "growth_share": growth / size,
        "flat": bool(growth < max(FLAT_SHARE * size, FLAT_BYTES)),
        "samples": points[:: max(1, len(points) // 100)],
    }


if __name__ == "__main__":
    sys.exit(main())
