"""Function calls in processes with limits on time and memory, for verifiers of arbitrary text.

Arguments and results cross between the processes as bytes, and what a function raises as text, so that nothing that a
function does can break the pool. All processes have the same hash seed, so that the order of sets in them is the same
in every run.
"""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import pickle
import resource
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait
from typing import Any, Literal

import psutil
from pebble import ProcessExpired, ProcessPool

from trainer.errors import ScopeError
from trainer.tasks.failure import cause_of

RECYCLE_AFTER = 10_000
"""calls after which a process is replaced, since libraries may leak memory"""
LOAD_SECONDS = 300.0
"""default limit of a process's first call"""
END_SECONDS = 10.0
"""longest time until a process that was told to end has ended"""

_Outcome = tuple[Literal["result", "failed", "refused", "not loaded"], bytes]


class BoundedError(Exception):
    """A call without a result: too slow, out of memory, its process died, or what the function raised, as text."""


class NotLoadedError(Exception):
    """The processes do not get ready for calls. The message is the cause."""


class BoundedPool:
    """Calls `function`, a function of a module with plain arguments, in `workers` processes. Thread-safe.

    seconds: limit per call; memory_mib: address space that a call may take beyond that of the loaded process; warm_up:
    arguments of a first call in each process, outside both limits, so that importing libraries does not count;
    load_seconds: its limit. Processes start at the first call, are replaced when they are killed, and end with this
    process, or once nothing refers to the pool. What they print to standard output is dropped.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        workers: int,
        seconds: float,
        memory_mib: int,
        warm_up: tuple[Any, ...] = (),
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self._function, self._seconds, self._load_seconds = function, seconds, load_seconds
        self._workers, self._arguments = workers, (memory_mib, function, warm_up)
        self._places = threading.Semaphore(workers)
        self._changing = threading.Lock()
        self._loaded = False
        self._pool = self._start()

    def load(self) -> None:
        """Wait until a process is ready for calls. Raises NotLoadedError, and ScopeError of the first call."""
        if not self._loaded:
            self._call(pickle.dumps((_nothing, ())), self._seconds)

    def call(self, *arguments: Any, seconds: float | None = None) -> Any:
        """The result of the function. seconds: another limit for this call.

        Raises BoundedError without a result, NotLoadedError if no process gets ready, and ScopeError that the function
        raises.
        """
        self.load()
        try:
            work = pickle.dumps((self._function, arguments))
        except Exception as error:
            raise BoundedError(f"its arguments cannot be sent to a process: {cause_of(error)}") from error
        return self._call(work, self._seconds if seconds is None else seconds)

    def close(self) -> None:
        """Stop the processes."""
        self._end()

    def _start(self) -> ProcessPool:
        pool = ProcessPool(
            max_workers=self._workers,
            max_tasks=RECYCLE_AFTER,
            initializer=_prepare,
            initargs=self._arguments,
            context=_Context(),
        )
        self._end = weakref.finalize(self, _stop, pool)
        self._end.atexit = False
        return pool

    def _call(self, work: bytes, seconds: float) -> Any:
        # No call waits for another one inside the pool, so one that does not start waits for a process to get ready.
        with self._places:
            for _ in range(2):
                pool = self._pool
                try:
                    kind, content = self._outcome(pool, work, seconds)
                except RuntimeError:
                    # A process that dies between two calls breaks the whole pool: this call is not its cause.
                    self._replace(pool)
                else:
                    return self._read(kind, content)
        if not self._loaded:
            raise NotLoadedError("its process ended before it was ready")
        raise BoundedError("verifier died")

    def _outcome(self, pool: ProcessPool, work: bytes, seconds: float) -> _Outcome:
        future = pool.schedule(_run, args=(work,), timeout=seconds)
        try:
            wait([future], self._load_seconds)
            if not future.running() and future.cancel():
                raise NotLoadedError(f"it is not ready after {self._load_seconds:g} s")
            return future.result(seconds + END_SECONDS)
        except FutureTimeoutError as error:
            raise BoundedError("too slow") from error
        except MemoryError as error:
            raise BoundedError("out of memory") from error
        except ProcessExpired as error:
            raise BoundedError("verifier died") from error

    def _read(self, kind: str, content: bytes) -> Any:
        if kind == "not loaded":
            raise NotLoadedError(content.decode())
        self._loaded = True
        if kind == "refused":
            raise ScopeError(content.decode())
        if kind == "failed":
            raise BoundedError(content.decode())
        try:
            return pickle.loads(content)
        except Exception as error:
            raise BoundedError(f"its result cannot be read: {cause_of(error)}") from error

    def _replace(self, broken: ProcessPool) -> None:
        with self._changing:
            if self._pool is broken:
                self._end()
                self._pool = self._start()


def _stop(pool: ProcessPool) -> None:
    pool.stop()
    with contextlib.suppress(RuntimeError):
        pool.join()


class _Process(multiprocessing.context.SpawnProcess):
    """A process with a fixed hash seed."""

    _starting = threading.Lock()

    def start(self) -> None:
        # The interpreter reads the seed from its environment only, which a new process has from this one.
        with self._starting:
            before = os.environ.get("PYTHONHASHSEED")
            os.environ["PYTHONHASHSEED"] = "0"
            try:
                super().start()
            finally:
                if before is None:
                    del os.environ["PYTHONHASHSEED"]
                else:
                    os.environ["PYTHONHASHSEED"] = before


class _Context(multiprocessing.context.SpawnContext):
    Process = _Process


_fault: _Outcome | None = None
"""in a process of a pool: why it is not ready"""


def _prepare(memory_mib: int, function: Callable[..., Any], warm_up: tuple[Any, ...]) -> None:
    """Limit this process, after a first call that imports what the function needs."""
    global _fault
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler in Python would wait for a computation in C.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if warm_up:
        kind, content = _attempt(function, warm_up)
        if kind != "result":
            _fault = ("refused" if kind == "refused" else "not loaded", content)
    size = psutil.Process().memory_info().vms + memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _run(work: bytes) -> _Outcome:
    """Call a function in a process of a pool."""
    if _fault is not None:
        return _fault
    try:
        function, arguments = pickle.loads(work)
    except Exception as error:
        return "failed", cause_of(error).encode()
    return _attempt(function, arguments)


def _attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Outcome:
    try:
        return "result", pickle.dumps(function(*arguments))
    except ScopeError as error:
        return "refused", str(error).encode("utf-8", "replace")
    except MemoryError:
        return "failed", b"out of memory"
    # Also what ends a process, such as sys.exit: the function may not decide that.
    except BaseException as error:
        return "failed", cause_of(error).encode()


def _nothing() -> None:
    """A call that only waits for its process."""
