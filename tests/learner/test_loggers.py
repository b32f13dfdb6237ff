"""Loggers take step records without delaying a step; a logger that fails is reported and dropped."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from services.records import loggers
from services.records.loggers import LoggedRun, Loggers, LoggerThread, require_loggers
from tests.support.step_records import record
from trainer.config.load import default_config
from trainer.errors import ScopeError


def logged(folder: Path, *overrides: str, first_step: int = 0) -> Loggers:
    """The loggers of a run whose learner begins with `first_step`."""
    return Loggers(LoggedRun("run-of-a-test", folder, default_config(overrides), first_step))


def test_tensorboard_is_the_default_and_reads_the_scalars(tmp_path: Path) -> None:
    sink = logged(tmp_path)
    for step in range(3):
        sink.write(record(step))
    sink.close()
    assert sink.reports() == []
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("entropy")
    assert [e.step for e in scalars] == [0, 1, 2]
    np.testing.assert_allclose([e.value for e in scalars], [0.7, 0.68, 0.66], rtol=1e-6)
    assert events.Scalars("generator_tokens_per_second/base")[0].value == 100


def test_a_step_that_is_done_again_is_in_tensorboard_once(tmp_path: Path) -> None:
    for first_step, reward in ((0, 0.1), (3, 0.2)):
        sink = logged(tmp_path, first_step=first_step)
        for step in range(first_step, 5):
            sink.write(record(step, reward=reward))
        sink.close()
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("reward")
    assert [e.step for e in scalars] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([e.value for e in scalars], [0.1, 0.1, 0.1, 0.2, 0.2], rtol=1e-6)


def test_wandb_offline_leaves_the_numbers_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine W&B's own process takes longer to start than a run waits for it at its end.
    monkeypatch.setattr(loggers, "CLOSE_SECONDS", 120.0)
    sink = logged(tmp_path, "loggers=[wandb]", "wandb.mode=offline")
    for step in range(3):
        sink.write(record(step))
    sink.close()
    assert sink.reports() == []
    (written,) = tmp_path.glob("wandb/offline-run-*/run-run-of-a-test.wandb")
    assert b"generator_tokens_per_second/base" in written.read_bytes()


class Broken:
    """Fails on its second record."""

    def log(self, step: int, at: float, values: dict[str, float]) -> None:
        if step == 1:
            raise ConnectionError("no route to the logger")

    def close(self) -> None:
        raise AssertionError("it was left out")


def test_a_logger_that_fails_is_reported_once_and_left_out() -> None:
    thread = LoggerThread("broken", Broken)
    for step in range(3):
        thread.write(record(step))
    thread.close()
    said = thread.report()
    assert said is not None
    assert "logger broken failed and is dropped: ConnectionError: no route" in said
    assert thread.report() is None


class Slow:
    """Takes no record until it is released."""

    def __init__(self, go: threading.Event) -> None:
        self._go = go

    def log(self, step: int, at: float, values: dict[str, float]) -> None:
        self._go.wait(30)

    def close(self) -> None:
        return


def test_a_slow_logger_holds_no_step_up_and_what_it_misses_is_reported() -> None:
    go = threading.Event()
    thread, one = LoggerThread("slow", lambda: Slow(go)), record(0)
    started = time.monotonic()
    for _ in range(loggers.QUEUE_RECORDS + 10):
        thread.write(one)
    assert time.monotonic() - started < 5
    said = thread.report()
    go.set()
    thread.close()
    assert said in {f"logger slow fell behind and missed {missed} step record(s)" for missed in (9, 10)}


def test_a_logger_that_is_not_installed_is_refused_with_the_extra_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ScopeError, match=r"package 'wandb'.*scope-rl-service\[loggers\]"):
        require_loggers(("wandb",))
