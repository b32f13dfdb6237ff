"""Ctrl-C, SIGTERM and SIGHUP: what a signal does depends on what the run has to save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from services.driver.stop_signals import StopSignals, Work
from services.host.interrupts import Interrupted, signals_as_interrupts
from tests.support.repository import ROOT

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt silences these for the rest of the process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.fixture(autouse=True)
def hangup() -> Iterator[None]:
    """Closing a terminal ends a process, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Terminal:
    """Collects what is said, and waits for it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._news = threading.Event()

    def say(self, text: str) -> None:
        self.said.append(text)
        self._news.set()

    def next(self) -> str:
        assert self._news.wait(10)
        self._news.clear()
        return self.said[-1]


@SIGNALS
@pytest.mark.parametrize("work", [Work.START, Work.EVALUATION])
def test_work_with_nothing_to_save_is_interrupted(number: signal.Signals, work: Work) -> None:
    terminal, before = Terminal(), signal.getsignal(number)
    with StopSignals(terminal.say) as stop:
        stop.work = work
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.status == 128 + number
        assert terminal.next() == f"{number.name}: {work.value}; a second signal exits immediately"
        with pytest.raises(Interrupted):
            stop.raise_if_requested()
    assert signal.getsignal(number) == before


@SIGNALS
def test_a_signal_during_steps_asks_the_learner_and_interrupts_nothing(number: signal.Signals) -> None:
    asked, terminal = threading.Event(), Terminal()
    with StopSignals(terminal.say) as stop:
        stop.work, stop.request = Work.STEPS, asked.set
        os.kill(os.getpid(), number)
        assert asked.wait(10)
        assert stop.requested
    assert terminal.said == [f"{number.name}: stopping after this step; a second signal exits immediately"]


def test_a_signal_at_the_end_changes_nothing() -> None:
    terminal = Terminal()
    with StopSignals(terminal.say) as stop:
        stop.work = Work.END
        os.kill(os.getpid(), signal.SIGTERM)
        assert "ending already" in terminal.next()


@SIGNALS
def test_signals_that_come_together_are_one(number: signal.Signals) -> None:
    asked, terminal = threading.Event(), Terminal()
    with StopSignals(terminal.say) as stop:
        stop.work, stop.request = Work.STEPS, asked.set
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert asked.wait(10)
    assert len(terminal.said) == 1


STUCK = """
import ctypes, os, signal, sys, threading
from services.driver import stop_signals
stop_signals.END_SECONDS = {bound}
with stop_signals.StopSignals(lambda text: print(text, flush=True)) as stop:
    stop.work = stop_signals.Work.{work}
    stop.at_forced_exit(lambda: print("cleaned", flush=True))
    stop.at_forced_exit(lambda: 1 / 0)
    for delay in {delays}:
        threading.Timer(delay, os.kill, [os.getpid(), signal.{signal}]).start()
    # A second lock of a mutex by its owner waits for ever; unlike a sleep, a signal does not end it.
    mutex = ctypes.create_string_buffer(64)
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize(
    ("work", "bound", "delays", "last"),
    [("START", 0.2, [0.2], "stopping"), ("STEPS", 60, [0.2, 1.2], "exiting immediately")],
    ids=["before the first step", "a second signal"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_main_thread_that_does_not_return_is_ended_after_the_cleaning(
    work: str, bound: float, delays: list[float], last: str, number: signal.Signals
) -> None:
    program = STUCK.format(work=work, bound=bound, delays=delays, signal=number.name)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 128 + number
    *said, cleaned = done.stdout.splitlines()
    assert cleaned == "cleaned"
    assert last in said[-1]
    assert done.stderr == ""


@SIGNALS
def test_other_commands_are_interrupted_by_every_signal(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, signals_as_interrupts():
        os.kill(os.getpid(), number)
    assert caught.value.status == 128 + number
    assert signal.getsignal(number) == before


def test_a_program_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(lambda text: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
