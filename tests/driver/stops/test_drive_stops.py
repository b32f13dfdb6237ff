"""Signals while the driver waits for the learner, and in the evaluation at the end, with stand-ins for the workers."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.driver.drive import Drive
from services.driver.heartbeat import DriverHeartbeat
from services.driver.progress import Progress
from services.driver.stop_signals import StopSignals, Work
from services.driver.storage import Storage
from services.driver.unbegun import is_unbegun, mark_unbegun
from services.redis.access import RedisAccess
from services.results.evaluations import Evaluations
from services.run.control import desired, request_action
from services.run.directory import CONFIG_FILE, RunDirectory
from services.run.state import update_status
from trainer.config.load import default_config
from trainer.errors import ScopeError

STEPS = 3


class Learner:
    """Ends when it is asked to stop. `on_wait` is called as often as the driver looks."""

    def __init__(self, redis: Redis, run: str, on_wait: Callable[[], None]) -> None:
        self._redis, self._run, self._on_wait = redis, run, on_wait

    def wait(self, seconds: float) -> bool:
        time.sleep(0.01)
        self._on_wait()
        return desired(self._redis, self._run).state == "stop"

    def restart(self, steps_done: int) -> None:
        return None


class Pool:
    """Generators that evaluate for ever once they have begun."""

    def __init__(self) -> None:
        self.evaluating: Callable[[], None] = lambda: None

    def supervise(self) -> list[str]:
        return []

    def evaluate(self, problems: int, samples: int, temperature: float) -> list[int]:
        self.evaluating()
        time.sleep(60)
        raise AssertionError("nobody interrupted the evaluation")


class Scheduler:
    """No evaluation during training."""

    def update(self, redis: Redis, done: int) -> list[str]:
        return []


class Server:
    """The supervisor of a server that stays."""

    def __init__(self, access: RedisAccess) -> None:
        self.access = access

    def keep_alive(self) -> None:
        return None

    def answered(self) -> None:
        return None


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt silences these for the rest of the process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.fixture
def stop(redis: Redis, run: str) -> Iterator[StopSignals]:
    with StopSignals(lambda text: None) as stop:
        stop.request = lambda: request_action(redis, run, "stop", "signal")
        yield stop


@pytest.fixture
def terminal() -> io.StringIO:
    """What the run prints."""
    return io.StringIO()


@pytest.fixture
def drive(
    redis: Redis,
    redis_access: RedisAccess,
    run: str,
    stop: StopSignals,
    terminal: io.StringIO,
    tmp_path: Path,
) -> Any:
    path = tmp_path / run
    (path / "checkpoints").mkdir(parents=True)
    (path / CONFIG_FILE).touch()
    mark_unbegun(path)
    directory = RunDirectory(path, run, default_config([f"steps={STEPS}"]), resumed=False)
    server: Any = Server(redis_access)
    return Drive(
        directory,
        server,
        redis,
        Progress(terminal),
        stop,
        Storage(path),
        DriverHeartbeat(redis, run),
        ExitStack(),
    )


def test_before_the_first_step_the_driver_is_interrupted(drive: Any, redis: Redis, run: str) -> None:
    learner = Learner(redis, run, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        drive._watch(Pool(), learner, Scheduler())
    assert is_unbegun(drive._directory.path)
    assert desired(redis, run).state == "run"


def test_after_the_first_step_the_learner_is_asked_to_stop(
    drive: Any, redis: Redis, run: str, stop: StopSignals
) -> None:
    update_status(redis, run, step=0, of=STEPS)

    def step_then_signal() -> None:
        update_status(redis, run, step=1)
        if stop.work is Work.STEPS and not stop.requested:
            os.kill(os.getpid(), signal.SIGTERM)

    drive._watch(Pool(), Learner(redis, run, step_then_signal), Scheduler())
    assert stop.requested
    assert not is_unbegun(drive._directory.path)


def test_a_learner_with_nothing_left_to_write_is_not_waited_for(drive: Any, redis: Redis, run: str) -> None:
    looks: list[int] = []

    def write_the_last_checkpoint() -> None:
        looks.append(1)
        assert len(looks) < 10
        update_status(redis, run, phase="learned" if len(looks) > 3 else "saving", step=STEPS, of=STEPS)

    drive._watch(Pool(), Learner(redis, run, write_the_last_checkpoint), Scheduler())
    assert len(looks) == 4


def test_a_directory_that_is_removed_ends_the_wait_with_its_name(drive: Any, redis: Redis, run: str) -> None:
    path = drive._directory.path
    with pytest.raises(ScopeError, match=f"The run directory {path} was removed"):
        drive._watch(Pool(), Learner(redis, run, lambda: shutil.rmtree(path)), Scheduler())


def test_the_evaluation_at_the_end_can_be_interrupted_and_the_report_is_written_without_it(
    drive: Any, redis: Redis, run: str, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[int] = []

    def write_report(*_: object, steps_done: int, wall_seconds: float) -> dict[str, Any]:
        reported.append(steps_done)
        return {}

    monkeypatch.setattr("services.results.report.write_report", write_report)
    monkeypatch.setattr("services.results.summary.summary", lambda report, path: ["the summary"])
    update_status(redis, run, step=STEPS, of=STEPS)
    pool = Pool()
    pool.evaluating = lambda: os.kill(os.getpid(), signal.SIGINT)
    drive._finish(pool, Evaluations(drive._directory.path / "evaluations.json"))
    assert reported == [STEPS]
    said = terminal.getvalue()
    assert "the evaluation at the end was not finished" in said
    assert f"to evaluate step {STEPS}: scope train --resume {drive._directory.path}" in said
