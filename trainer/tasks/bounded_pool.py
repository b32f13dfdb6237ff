"""Calls that may hang or eat memory, in processes that are killed for it: verifiers of arbitrary text run here."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from pebble import ProcessExpired, ProcessPool

RECYCLE_AFTER = 10_000
"""calls, after which a process is replaced: libraries leak"""


class BoundedError(Exception):
    """A call that was ended: too slow, out of memory, or its process died. The text says which."""


class BoundedPool:
    """Runs `function`, a module's function with plain arguments, in `workers` processes of their own.

    seconds: for one call; memory_mib: address space of a process; warm_up: arguments of a call that each process makes
    first, outside both bounds, so that importing a library counts against neither. Processes start with the first
    call, are replaced when they are killed, and end with this one. Thread-safe.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        workers: int,
        seconds: float,
        memory_mib: int,
        warm_up: tuple[Any, ...] = (),
    ) -> None:
        self._function, self._seconds = function, seconds
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=RECYCLE_AFTER,
            initializer=_limit,
            initargs=(memory_mib, function, warm_up),
            context=multiprocessing.get_context("spawn"),
        )

    def call(self, *arguments: Any) -> Any:
        """The function's value. Raises `BoundedError`, and whatever the function raises."""
        future = self._pool.schedule(self._function, args=arguments, timeout=self._seconds)
        try:
            return future.result()
        except FutureTimeoutError as error:
            raise BoundedError("too slow") from error
        except MemoryError as error:
            raise BoundedError("out of memory") from error
        except ProcessExpired as error:
            raise BoundedError("verifier died") from error

    def close(self) -> None:
        """End the processes."""
        self._pool.stop()
        self._pool.join()


def _limit(memory_mib: int, function: Callable[..., Any], warm_up: tuple[Any, ...]) -> None:
    """Bound this process, and import what the function needs before the clock of a call runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if warm_up:
        function(*warm_up)
    size = memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
