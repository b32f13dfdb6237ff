"""Function calls in processes with limits on time and memory, for verifiers of arbitrary text."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from pebble import ProcessExpired, ProcessPool

RECYCLE_AFTER = 10_000
"""calls after which a process is replaced, since libraries may leak memory"""


class BoundedError(Exception):
    """A call that was stopped: too slow, out of memory, or its process died. The message says which."""


class BoundedPool:
    """Calls `function`, a function of a module with plain arguments, in `workers` processes. Thread-safe.

    seconds: limit per call; memory_mib: address space per process; warm_up: arguments of a first call in each process,
    outside both limits, so that importing libraries does not count. Processes start at the first call, are replaced
    when they are killed, and end with this process.
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
        """The result of the function. Raises `BoundedError`, and what the function raises."""
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
        """Stop the processes."""
        self._pool.stop()
        self._pool.join()


def _limit(memory_mib: int, function: Callable[..., Any], warm_up: tuple[Any, ...]) -> None:
    """Limit this process, after a first call that imports what the function needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if warm_up:
        function(*warm_up)
    size = memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
