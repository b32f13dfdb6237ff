"""Ctrl-C and SIGTERM: the first one stops the run in order, the second gives up at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from redis import Redis

from services.driver.progress import Progress
from services.run.control import ask


class StoppedEarly(Exception):
    """A stop was asked for before there was anything to checkpoint."""


class StopSignals:
    """A context manager for the main thread; elsewhere it changes nothing."""

    def __init__(self, redis: Redis, run_id: str, progress: Progress) -> None:
        self._redis, self._run_id, self._progress = redis, run_id, progress
        self._before: dict[int, signal._HANDLER] = {}
        self.requested = False

    def __enter__(self) -> StopSignals:
        self.take()
        return self

    def take(self) -> None:
        """Handle the signals from here on; again after a library has put its own handlers in place."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        name = signal.Signals(number).name
        self._progress.say(f"{name}: stopping after this step (again to give up at once)")
        # Not here: the interrupted code may be in the middle of a call on the same connection pool.
        threading.Thread(target=ask, args=(self._redis, self._run_id, "stop", "signal"), daemon=True).start()
