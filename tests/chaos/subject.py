"""The run under fault injection: its driver, restarted when killed, and the evidence that the run leaves at its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from redis import Redis

from services.records.ledger import read_history, read_offered
from services.redis.access import RedisAccess
from services.redis.embedded import EmbeddedRedis
from services.redis.keys import CONSUMER_GROUP, RunKeys
from tests.chaos.ledger import Evidence
from tests.chaos.processes import command, descendants, identity
from tests.support.ports import free_ports
from tests.support.runs.run_harness import Run, left_running, new_run
from trainer.config import RedisConfig

ORPHAN_SECONDS = 30.0


class Subject:
    """One run with an embedded Redis and `pipeline.ledger` enabled."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.driver: subprocess.Popen[str] = run.start()
        self._seen: set[tuple[int, int]] = set()

    def resume(self) -> None:
        """Run `scope train --resume` after the driver was killed."""
        self.driver = self.run.start(resume=True)

    def look(self) -> None:
        """Record the run's current processes: none may outlive the run."""
        self._seen |= {one for pid in descendants(self.driver.pid) if (one := identity(pid)) is not None}

    def steps_done(self) -> int:
        """Learner steps of the surviving lineage."""
        records = self.run.records()
        return records[-1].step + 1 if records else 0

    def lineage(self) -> int:
        """The lineage of the newest learner step."""
        records = self.run.records()
        return records[-1].lineage if records else 0

    def await_lineage(self, number: int, seconds: float) -> None:
        """Wait for a step of lineage `number` or a later one."""
        self.run.wait_for(f"lineage {number}", lambda: self.lineage() >= number, self.driver, seconds)

    def await_step(self, count: int, seconds: float) -> None:
        """Wait until `count` learner steps are done."""
        self.run.wait_for(f"{count} steps", lambda: self.steps_done() >= count, self.driver, seconds)

    def preempt(self, seconds: float) -> int:
        """Send SIGTERM to the driver; returns its exit status, due within the grace period of `seconds`."""
        self.look()
        self.driver.send_signal(signal.SIGTERM)
        return self.driver.wait(seconds)

    def interrupt(self, seconds: float) -> int:
        """Send SIGINT to the terminal's foreground process group, as Ctrl-C does; returns the driver's exit status."""
        self.look()
        os.killpg(self.driver.pid, signal.SIGINT)
        return self.driver.wait(seconds)

    @contextlib.contextmanager
    def redis(self) -> Iterator[Redis]:
        """A client of the run's Redis while the run works, unaffected by faults on other connections."""
        access = RedisAccess(f"redis://127.0.0.1:{self.redis_port}/0", str(self._secrets / "password"))
        with access.without_retries() as client:
            yield client

    @property
    def redis_port(self) -> int:
        """The port of the run's embedded Redis."""
        port = re.search(r"^port (\d+)$", (self._secrets / "redis.conf").read_text(), re.MULTILINE)
        assert port is not None
        return int(port[1])

    @property
    def ray_token_file(self) -> Path:
        """The file with the token of the run's Ray cluster."""
        return self._secrets / "ray-token"

    def evidence(self) -> Evidence:
        """The evidence of a run that has ended; this starts its Redis once more."""
        data = self.run.directory / "redis"
        with (
            EmbeddedRedis(RedisConfig(), data_dir=data, state_dir=self._secrets) as server,
            server.access.sync() as redis,
        ):
            dead_lettered, pending = queue_groups(redis, self.run.directory.name)
        return Evidence(
            offered=read_offered(self.run.directory),
            history=read_history(self.run.directory),
            dead_lettered=dead_lettered,
            pending=pending,
        )

    @property
    def _secrets(self) -> Path:
        state, run = (
            Path(self.run.environment["XDG_STATE_HOME"]) / "scope-rl",
            str(self.run.directory.resolve()),
        )
        (folder,) = [
            folder for folder in state.iterdir() if (folder / "run-directory").read_text().strip() == run
        ]
        return folder

    def leftovers(self) -> list[str]:
        """Processes and incomplete files that the run left behind."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := self._running()) and time.monotonic() < deadline:
            time.sleep(0.5)
        unfinished = [*self.run.directory.rglob(".writing-*"), *self.run.directory.rglob(".*.new")]
        return [*left, *(str(path) for path in unfinished)]

    def _running(self) -> list[str]:
        seen = [f"{pid} {command(pid)}" for pid, start in sorted(self._seen) if identity(pid) == (pid, start)]
        return [*seen, *left_running(self.run)]

    def kill(self) -> None:
        """Kill the run, whatever state it is in."""
        if self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()


def chaos_run(folder: Path, name: str) -> Run:
    """A small run that continues until it is stopped; Redis syncs every write, so that its death loses nothing."""
    (control_plane,) = free_ports(1)
    return new_run(
        folder,
        name,
        [
            "steps=100000",
            "learner.workers=2",
            "rollout.prompts_per_step=4",
            "rollout.max_new_tokens=24",
            "loss.minibatches=1",
            "checkpoint.every_steps=5",
            "evaluation.problems=2",
            "pipeline.lease_seconds=4",
            "pipeline.ledger=true",
            "redis.appendfsync=always",
            f"control_plane.port={control_plane}",
            "ray.dashboard=false",
            "generators.max_restarts=1000",
        ],
    )


def queue_groups(redis: Redis, run_id: str) -> tuple[frozenset[str], frozenset[str]]:
    """Group ids: those dead-lettered, and those in the stream that are unread or unacknowledged."""
    keys = RunKeys(run_id)
    last_read = cast("bytes", redis.hget(keys.counters, "last_read") or b"0-0").decode()
    unread = cast("list[Any]", redis.xrange(keys.trajectories, min=f"({last_read}"))
    delivered = cast("list[Any]", redis.xrange(keys.trajectories, max=last_read))
    pending: Any = redis.xpending_range(keys.trajectories, CONSUMER_GROUP, min="-", max="+", count=1_000_000)
    open_ids = {item["message_id"] for item in pending}
    dead = cast("list[Any]", redis.xrange(keys.dead_letters))
    return (
        frozenset(fields[b"group"].decode() for _, fields in dead),
        frozenset(
            fields[b"group"].decode()
            for entry_id, fields in [*unread, *delivered]
            if entry_id in open_ids or (entry_id, fields) in unread
        ),
    )
