"""Ctrl-C and SIGTERM: the first one stops the run in order, a second one exits immediately."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from redis import Redis

from services.driver.progress import Progress
from services.run.control import request_action


class StoppedEarly(Exception):
    """A stop was requested before there was anything to checkpoint."""


class StopSignals:
    """Handles the stop signals within the block, on the main thread; on another thread it does nothing."""

    def __init__(self, redis: Redis, run_id: str, progress: Progress) -> None:
        self._redis, self._run_id, self._progress = redis, run_id, progress
        self._before: dict[int, signal._HANDLER] = {}
        self.requested = False

    def __enter__(self) -> StopSignals:
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers. Call it again after a library has installed its own."""
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
        self._progress.say(f"{name}: stopping after this step; a second signal exits immediately")
        # On another thread: the interrupted code may be in a call on the same connection pool.
        threading.Thread(
            target=request_action, args=(self._redis, self._run_id, "stop", "signal"), daemon=True
        ).start()
