"""SIGTERM and a closed terminal (SIGHUP) as the exception that Ctrl-C raises."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class Interrupted(KeyboardInterrupt):
    """A signal that asks a program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        """the exit status that shells give to a program that the signal ended: 130, 143 or 129"""


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """The exit status of a command that `interrupt` ended; 130, that of Ctrl-C, if its signal is not known."""
    return interrupt.status if isinstance(interrupt, Interrupted) else 128 + signal.SIGINT


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise Interrupted within the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        be_quiet()
        raise Interrupted(number)

    with handled_by(interrupt, signals_to_handle()):
        yield


@contextmanager
def handled_by(handler: Handler, signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Handle `signals` by `handler` within the block; on another thread than the main one this changes nothing."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in signals} if here else {}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def signals_to_handle() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM and SIGHUP; the last one not under nohup, where a program outlives its terminal."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def be_quiet() -> None:
    """Print nothing about exceptions that the end of the program raises in finalizers and other threads."""
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
