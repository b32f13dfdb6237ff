"""The control plane under load: what it costs a training run, and the request rate that it sustains without one.

    .venv/bin/python -m benchmarks.control_plane.load

1. The quickstart, started with `scope train`. After a warm-up, intervals of equal length without and with load
   alternate. Under load, 64 clients read once a second and 8 change the entropy target every 5 seconds.
2. A control plane and its own Redis, without a run: 16 clients read as fast as they can.

Prints the table and writes benchmarks/results/control-plane-load.json: latencies (p50, p99) and errors, step times
without and with load and their ratio, the processor time of each part of the system and of the clients, the sustained
rate, and whether the writes have one total order. The clients run on the same cores, so their cost is part of the
ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.control_plane.clients import Seen, Task
from benchmarks.control_plane.processes import cpu_seconds, machine_busy_seconds, used
from services.access.run_secrets import RunSecrets
from services.access.tokens import create_token
from services.control_plane.client import ControlPlaneClient
from services.entropy_target.store import initialise_entropy_target
from services.records.sinks import read_records
from services.redis.embedded import EmbeddedRedis
from services.run.state import RunSpec, initialise_run
from trainer.config import RedisConfig, RunConfig
from trainer.config.load import config_hash

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "control-plane-load.json"
READERS, WRITERS = 64, 8
READ_SECONDS, WRITE_SECONDS = 1.0, 5.0
STRETCHES = 2
"""intervals with load, and as many without"""
WARM_UP_STEPS = 8
SATURATED_CLIENTS, SATURATED_SECONDS = 16, 20.0
PATHS = (
    "",
    "/entropy-target",
    "/metrics?fields=entropy,entropy_target&rows=200",
    "/entropy-target/history?limit=20",
)


def under(task: Task) -> Seen:
    """Run the clients of a task in a separate process and return what they measured."""
    command = [sys.executable, "-m", "benchmarks.control_plane.clients"]
    answer = subprocess.run(
        command,
        input=json.dumps(asdict(task)),
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    return Seen(**json.loads(answer.stdout))


def beside_training(directory: Path, seconds: float, overrides: Sequence[str]) -> dict[str, Any]:
    """Train, with alternating intervals of `seconds` without and with load."""
    run = directory / "loaded"
    settings = [
        *(f"runs_dir={directory}", "steps=100000", "evaluation.problems=8", "control_plane.port=8091"),
        *("control_plane.reads_per_minute=100000", "control_plane.writes_per_minute=10000", *overrides),
    ]
    command = [
        *(sys.executable, "-m", "services.cli", "train", "deploy/configs/countdown-cpu.yaml"),
        *("--run-id", "loaded", *(part for setting in settings for part in ("--set", setting))),
    ]
    with (directory / "train.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for_step(process, run, WARM_UP_STEPS)
        url, token = json.loads((run / "endpoint.json").read_text())["url"], RunSecrets(run).token()
        task = Task(
            url=f"{url}/v1/runs/loaded",
            token=token,
            seconds=seconds,
            paths=PATHS,
            readers=READERS,
            read_every=READ_SECONDS,
            writers=WRITERS,
            write_every=WRITE_SECONDS,
            base=0.42,
        )
        times: dict[str, list[float]] = {"quiet": [], "loaded": []}
        shares: dict[str, list[dict[str, float]]] = {"quiet": [], "loaded": []}
        loads: list[Seen] = []
        for _ in range(STRETCHES):
            for kind in ("quiet", "loaded"):
                first, before = len(read_records(run / "steps.jsonl")), cpu_seconds(process.pid)
                busy, started = machine_busy_seconds(), time.monotonic()
                if kind == "loaded":
                    loads.append(under(task))
                else:
                    time.sleep(seconds)
                elapsed = time.monotonic() - started
                parts = used(before, cpu_seconds(process.pid)) | {
                    "whole machine": machine_busy_seconds() - busy
                }
                if kind == "loaded":
                    parts["clients"] = loads[-1].cpu_seconds
                shares[kind].append({role: round(value / elapsed, 4) for role, value in parts.items()})
                # The step in progress when the interval began belongs to neither.
                times[kind] += [r.step_seconds for r in read_records(run / "steps.jsonl")[first + 1 :]]
                assert process.poll() is None, (directory / "train.log").read_text()[-2000:]
        generations = [generation for load in loads for generation in load.generations]
        with ControlPlaneClient(url, token) as client:
            history = client.entropy_history("loaded", 1000).events
            client.request_action("loaded", "stop")
        changed = [event.generation for event in history if event.event == "changed"]
        process.wait(timeout=300)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    medians = {kind: float(np.median(values)) for kind, values in times.items()}
    means = {kind: float(np.mean(values)) for kind, values in times.items()}
    return {
        "clients": {"reading": READERS, "writing": WRITERS, "seconds": seconds * STRETCHES},
        "reads": latencies([value for load in loads for value in load.reads]),
        "writes": latencies([value for load in loads for value in load.writes]),
        "errors": [error for load in loads for error in load.errors],
        "step_seconds_median": medians,
        "step_seconds_mean": means,
        "step_seconds": times,
        "step_time_ratio": medians["loaded"] / medians["quiet"],
        "step_time_ratio_of_means": means["loaded"] / means["quiet"],
        "step_time_ratio_of_means_95": ratio_interval(times["loaded"], times["quiet"]),
        "cores_used": shares,
        "one_total_order": changed == sorted(changed, reverse=True)
        and len(set(generations)) == len(generations)
        and set(generations) <= set(changed),
        "acknowledged_changes": len(generations),
    }


class Idle(NamedTuple):
    """A control plane with one run that does nothing."""

    url: str
    """URL of the run"""
    token: str
    process: int


@contextmanager
def idle_control_plane(directory: Path, port: int) -> Iterator[Idle]:
    """A control plane and its Redis in `directory`, without a rate limit on reads."""
    with EmbeddedRedis(RedisConfig(), data_dir=directory / "redis", state_dir=directory / "state") as server:
        config = RunConfig()
        with server.access.sync() as redis:
            tree = config.model_dump(mode="json")
            spec = RunSpec(
                run_id="idle", config=tree, config_hash=config_hash(config), started_at=0.0, versions={}
            )
            initialise_entropy_target(redis, "idle")
            initialise_run(redis, "idle", spec)
            token = create_token(redis, "idle", "load", "viewer")
        password = Path(str(server.access.password_file)).read_text().strip()
        command = [
            *(sys.executable, "-m", "services.cli", "serve", "--redis-url", server.access.url),
            *("--port", str(port), "--set", "reads_per_minute=1000000000"),
        ]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | {"SCOPE_REDIS_PASSWORD": password}
        )
        try:
            wait_for_answer(f"http://127.0.0.1:{port}/healthz")
            yield Idle(f"http://127.0.0.1:{port}/v1/runs/idle", token, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)


def alone(directory: Path) -> dict[str, Any]:
    """Measure a control plane and its Redis without a run."""
    with idle_control_plane(directory, 8092) as idle:
        before = cpu_seconds(idle.process)
        load = under(
            Task(
                url=idle.url,
                token=idle.token,
                seconds=SATURATED_SECONDS,
                paths=PATHS,
                readers=SATURATED_CLIENTS,
                read_every=0.0,
            )
        )
        parts = used(before, cpu_seconds(idle.process)) | {"clients": load.cpu_seconds}
    return {
        "clients": SATURATED_CLIENTS,
        "reads_per_second": len(load.reads) / SATURATED_SECONDS,
        "reads": latencies(load.reads),
        "errors": load.errors,
        "processor_ms_per_read": {
            role: round(1000 * value / len(load.reads), 3) for role, value in parts.items()
        },
    }


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    """Wait until the run has done `step` learner steps."""
    while len(read_records(run / "steps.jsonl")) < step:
        assert process.poll() is None, "the training ended"
        time.sleep(0.5)


def wait_for_answer(url: str) -> None:
    """Wait until a server answers at `url`. Raises TimeoutError after 600 attempts."""
    for _ in range(600):
        try:
            httpx.get(url)
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError(url)


def ratio_interval(loaded: Sequence[float], quiet: Sequence[float]) -> list[float]:
    """95 % bootstrap interval of the ratio of means. Other work on the machine widens it."""
    draws = np.random.default_rng(0)
    ratios = [
        draws.choice(loaded, len(loaded)).mean() / draws.choice(quiet, len(quiet)).mean() for _ in range(4000)
    ]
    return [round(float(edge), 3) for edge in np.percentile(ratios, (2.5, 97.5))]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Count, and percentiles in milliseconds, of latencies in seconds."""
    p50, p99 = np.percentile(seconds, (50, 99)) * 1000
    return {"count": len(seconds), "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1)}


def main() -> None:
    """Measure both cases, print the table and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of each interval of the training run"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-load-") as name:
        training = beside_training(Path(name), options.seconds, options.overrides)
        idle = alone(Path(name))
    for kind in ("reads", "writes"):
        shown = training[kind]
        print(
            f"{kind:7} during training: {shown['count']} requests, p50 {shown['p50_ms']} ms, p99 {shown['p99_ms']} ms"
        )
    print(f"errors: {len(training['errors'])}; writes have one total order: {training['one_total_order']}")
    print(
        f"step time, loaded / quiet: {training['step_time_ratio']:.3f} of medians, "
        f"{training['step_time_ratio_of_means']:.3f} of means, 95 % {training['step_time_ratio_of_means_95']}"
    )
    for kind, stretches in training["cores_used"].items():
        for stretch in stretches:
            print(f"cores, {kind}: {', '.join(f'{role} {value:.3f}' for role, value in stretch.items())}")
    print(
        f"alone: {idle['reads_per_second']:.0f} reads/s, p99 {idle['reads']['p99_ms']} ms, "
        f"{len(idle['errors'])} errors; processor ms per read: {idle['processor_ms_per_read']}"
    )
    document = {
        "made_by": ["python", "-m", "benchmarks.control_plane.load", *sys.argv[1:]],
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
        "beside_training": training,
        "alone": idle,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
