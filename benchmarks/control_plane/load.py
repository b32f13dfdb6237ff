"""The control plane under load: beside a training run, what it costs the run; without one, what it sustains.

    .venv/bin/python benchmarks/control_plane/load.py

1. The quickstart for some steps, `scope train` as a user starts it. After a warm-up, stretches of equal length with and
   without load take turns: 64 clients read once a second and 8 move the set-point every 5 seconds.
2. A control plane alone over its own Redis, as many reads as 16 clients can make.

Prints the table and writes benchmarks/results/control-plane-load.json: latencies of reads (p50, p99), errors, the
step time of each stretch and their ratio, the rate sustained, and whether the writes have one total order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from services.client import ControlPlaneClient
from services.metrics import read_records
from services.redis_server import EmbeddedRedis
from services.run_secrets import RunSecrets
from services.run_state import RunSpec, initialise_run
from services.tokens import create_token
from trainer.config import RedisConfig, RunConfig
from trainer.config_load import config_hash

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "control-plane-load.json"
READERS, WRITERS = 64, 8
READ_SECONDS, WRITE_SECONDS = 1.0, 5.0
STRETCH_SECONDS = 60.0
STRETCHES = 2
"""of each kind"""
WARM_UP_STEPS = 8
SATURATED_CLIENTS, SATURATED_SECONDS = 16, 20.0
PATHS = (
    "",
    "/entropy-target",
    "/metrics?fields=entropy,set_point&rows=200",
    "/entropy-target/history?limit=20",
)


@dataclass
class Load:
    """What clients saw."""

    reads: list[float] = field(default_factory=list)
    """latencies, seconds"""
    writes: list[float] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    """of the acknowledged changes"""
    errors: list[str] = field(default_factory=list)


async def read(
    client: httpx.AsyncClient, url: str, load: Load, every: float, until: float, offset: float
) -> None:
    """One reading client."""
    await asyncio.sleep(offset)
    turn = 0
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            answer = await client.get(url + PATHS[turn % len(PATHS)])
            if answer.status_code != 200:
                load.errors.append(f"{answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            load.errors.append(repr(error))
        load.reads.append(time.monotonic() - started)
        turn += 1
        await asyncio.sleep(max(0.0, every - (time.monotonic() - started)))


async def write(
    client: httpx.AsyncClient, url: str, load: Load, until: float, offset: float, base: float
) -> None:
    """One writing client: small moves around `base`."""
    await asyncio.sleep(offset)
    turn = 0
    while time.monotonic() < until:
        started = time.monotonic()
        headers = {"If-Match": "*", "Idempotency-Key": secrets.token_hex(8)}
        body = {"target": base + 0.001 * (turn % 3)}
        try:
            answer = await client.put(f"{url}/entropy-target", json=body, headers=headers)
            if answer.status_code in (200, 202):
                load.generations.append(answer.json()["metadata"]["generation"])
            else:
                load.errors.append(f"{answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            load.errors.append(repr(error))
        load.writes.append(time.monotonic() - started)
        turn += 1
        await asyncio.sleep(max(0.0, WRITE_SECONDS - (time.monotonic() - started)))


async def under_load(url: str, token: str, seconds: float, base: float) -> Load:
    """Every client for `seconds`."""
    load, until = Load(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=READERS + WRITERS)
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {token}"}, limits=limits, timeout=30
    ) as client:
        readers = [
            read(client, url, load, READ_SECONDS, until, READ_SECONDS * i / READERS) for i in range(READERS)
        ]
        writers = [write(client, url, load, until, WRITE_SECONDS * i / WRITERS, base) for i in range(WRITERS)]
        await asyncio.gather(*readers, *writers)
    return load


async def saturated(url: str, token: str) -> Load:
    """Readers without a pause."""
    load, until = Load(), time.monotonic() + SATURATED_SECONDS
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        await asyncio.gather(*(read(client, url, load, 0.0, until, 0.0) for _ in range(SATURATED_CLIENTS)))
    return load


def beside_training(directory: Path) -> dict[str, Any]:
    """Train, with and without load in turn."""
    run = directory / "loaded"
    command = [
        *(sys.executable, "-m", "services.cli", "train", "deploy/configs/countdown-cpu.yaml"),
        *("--run-id", "loaded", "--set", f"runs_dir={directory}", "--set", "steps=100000"),
        *("--set", "evaluation.problems=8", "--set", "control_plane.port=8091"),
        *("--set", "control_plane.reads_per_minute=100000", "--set", "control_plane.writes_per_minute=10000"),
    ]
    with (directory / "train.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for_step(process, run, WARM_UP_STEPS)
        token = RunSecrets(run).token()
        url = f"{json.loads((run / 'endpoint.json').read_text())['url']}/v1/runs/loaded"
        times: dict[str, list[float]] = {"quiet": [], "loaded": []}
        loads: list[Load] = []
        for _ in range(STRETCHES):
            for kind in ("quiet", "loaded"):
                first = len(read_records(run / "steps.jsonl"))
                if kind == "loaded":
                    loads.append(asyncio.run(under_load(url, token, STRETCH_SECONDS, 0.42)))
                else:
                    time.sleep(STRETCH_SECONDS)
                # The step under way at the change belongs to neither.
                times[kind] += [r.step_seconds for r in read_records(run / "steps.jsonl")[first + 1 :]]
                assert process.poll() is None, (directory / "train.log").read_text()[-2000:]
        generations = [generation for load in loads for generation in load.generations]
        with ControlPlaneClient(url.partition("/v1/")[0], token) as client:
            history = client.entropy_history("loaded", 1000).events
            client.ask("loaded", "stop")
        changed = [event.generation for event in history if event.event == "changed"]
        process.wait(timeout=300)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    medians = {kind: float(np.median(values)) for kind, values in times.items()}
    return {
        "clients": {"reading": READERS, "writing": WRITERS, "seconds": STRETCH_SECONDS * STRETCHES},
        "reads": latencies([value for load in loads for value in load.reads]),
        "writes": latencies([value for load in loads for value in load.writes]),
        "errors": [error for load in loads for error in load.errors],
        "step_seconds_median": medians,
        "step_seconds": times,
        "step_time_ratio": medians["loaded"] / medians["quiet"],
        "one_total_order": changed == sorted(changed, reverse=True)
        and len(set(generations)) == len(generations)
        and set(generations) <= set(changed),
        "acknowledged_changes": len(generations),
    }


def alone(directory: Path) -> dict[str, Any]:
    """A control plane and its Redis, nothing else."""
    with EmbeddedRedis(RedisConfig(), data_dir=directory / "redis", state_dir=directory / "state") as server:
        config = RunConfig()
        with server.access.sync() as redis:
            tree = config.model_dump(mode="json")
            spec = RunSpec(
                run_id="idle", config=tree, config_hash=config_hash(config), started_at=0.0, versions={}
            )
            initialise_run(redis, "idle", spec)
            token = create_token(redis, "idle", "load", "viewer")
        password = Path(str(server.access.password_file)).read_text().strip()
        command = [
            *(sys.executable, "-m", "services.cli", "serve", "--redis-url", server.access.url),
            *("--port", "8092", "--set", "reads_per_minute=1000000000"),
        ]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | {"SCOPE_REDIS_PASSWORD": password}
        )
        try:
            wait_for_answer("http://127.0.0.1:8092/healthz")
            load = asyncio.run(saturated("http://127.0.0.1:8092/v1/runs/idle", token))
        finally:
            process.terminate()
            process.wait(timeout=30)
    return {
        "clients": SATURATED_CLIENTS,
        "reads_per_second": len(load.reads) / SATURATED_SECONDS,
        "reads": latencies(load.reads),
        "errors": load.errors,
    }


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    """Until the run has done so many learner steps."""
    while len(read_records(run / "steps.jsonl")) < step:
        assert process.poll() is None, "the training ended"
        time.sleep(0.5)


def wait_for_answer(url: str) -> None:
    """Until a server answers."""
    for _ in range(600):
        try:
            httpx.get(url)
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError(url)


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Count and percentiles, milliseconds."""
    p50, p99 = np.percentile(seconds, (50, 99)) * 1000
    return {"count": len(seconds), "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1)}


def main() -> None:
    """Measure, print, write."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-load-") as name:
        training, idle = beside_training(Path(name)), alone(Path(name))
    for kind in ("reads", "writes"):
        shown = training[kind]
        print(
            f"{kind:7} beside training: {shown['count']} p50 {shown['p50_ms']} ms, p99 {shown['p99_ms']} ms"
        )
    print(f"errors: {len(training['errors'])}; writes in one total order: {training['one_total_order']}")
    print(f"step time, loaded / quiet: {training['step_time_ratio']:.3f}")
    print(
        f"alone: {idle['reads_per_second']:.0f} reads/s, p99 {idle['reads']['p99_ms']} ms, "
        f"{len(idle['errors'])} errors"
    )
    document = {
        "made_by": sys.argv,
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
        "beside_training": training,
        "alone": idle,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
