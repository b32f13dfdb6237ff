"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): what the first one does depends on what the run has to save.

Until the first learner step, and in an evaluation, it interrupts the main thread, whatever that is doing. During steps
it asks the learner to stop. A second signal ends the process at once.

A thread learns of a signal from the kernel (`signal.set_wakeup_fd`), because Python's own handlers wait for the main
thread, which may be in a call that does not return for minutes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType, TracebackType

from services.host.interrupts import Interrupted, be_quiet, signals_to_handle

END_SECONDS = 3.0
"""The process is ended when it has not ended by itself this long after it was interrupted before the first step."""

TOGETHER_SECONDS = 0.3
"""Signals within this time are one: a shell, or another program above, may pass on what the kernel sends as well."""


class Work(Enum):
    """What a signal finds under way, and what is said about it."""

    START = "stopping"
    STEPS = "stopping after this step"
    EVALUATION = "ending the evaluation"
    END = "the run is ending already"


class StopSignals:
    """Handles the stop signals within the block, on the main thread; on another thread it does nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.work = Work.START
        self.request: Callable[[], object] = lambda: None
        """asks the learner to stop; called on another thread, at the first signal during steps"""
        self.number: int | None = None
        """the first signal, once there was one"""
        self._found: Work | None = None
        """what the first signal interrupted"""
        self._received_at: float | None = None
        self._before: dict[int, signal._HANDLER] = {}
        self._before_exit: list[Callable[[], object]] = []
        self._deadline: threading.Timer | None = None

    @property
    def requested(self) -> bool:
        """Whether there was a signal."""
        return self.number is not None

    @property
    def status(self) -> int:
        """The exit status of a process that a signal has ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, name="stop-signals", daemon=True)
            self._thread.start()
            self._before = {number: signal.signal(number, self._handle) for number in signals_to_handle()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def at_forced_exit(self, clean: Callable[[], object]) -> None:
        """Call `clean` before the process is ended by force, the last one given first."""
        self._before_exit.append(clean)

    def raise_if_requested(self) -> None:
        """Raise Interrupted if there was a signal: a library may have swallowed the exception of the handler."""
        if self.number is not None:
            raise Interrupted(self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._found is not None:
            return
        self.number, self._found = number, self.work
        if self.work in (Work.START, Work.EVALUATION):
            be_quiet()
            raise Interrupted(number)

    def _listen(self) -> None:
        while numbers := os.read(self._reader, 64):
            for number in numbers:
                if number in self._before:
                    self._received(signal.Signals(number))

    def _received(self, number: signal.Signals) -> None:
        # While Ray connects, its own handler of SIGTERM runs first and sets an alarm that would abort this process.
        signal.alarm(0)
        if number == signal.SIGHUP:
            _leave_terminal()
        now = time.monotonic()
        if self._received_at is not None:
            if number != signal.SIGHUP and now - self._received_at > TOGETHER_SECONDS:
                self._tell(f"{number.name}: exiting immediately")
                self._end_by_force(number)
            return
        self._received_at = now
        # The main thread may have left what its handler has interrupted.
        work = self._found or self.work
        self.number = number
        self._tell(f"{number.name}: {work.value}; a second signal exits immediately")
        if work is Work.START:
            self._deadline = threading.Timer(END_SECONDS, self._end_by_force, [number])
            self._deadline.daemon = True
            self._deadline.start()
        elif work is Work.STEPS:
            threading.Thread(target=self.request, daemon=True).start()

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.say(text)

    def _end_by_force(self, number: int) -> None:
        for clean in reversed(self._before_exit):
            with contextlib.suppress(Exception):
                clean()
        os._exit(128 + number)


def _leave_terminal() -> None:
    """Discard what is printed to a terminal that was closed: writing to it would raise an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
