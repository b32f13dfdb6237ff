"""Verifier processes: one that hangs, exhausts memory or dies is terminated, and the next call works."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from trainer.tasks.bounded_pool import BoundedError, BoundedPool, NotLoadedError
from trainer.tasks.failure import LONGEST_CAUSE

pytestmark = pytest.mark.timeout(180)


def act(what: str) -> object:
    """Act as a verifier may."""
    if what == "hang":
        while True:
            pass
    if what == "allocate":
        return len(bytearray(4 * 2**30))
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what in FAULTS:
        return FAULTS[what]()
    return f"did {what}"


class TwoArgumentsError(Exception):
    """Pickles, and cannot be unpickled."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


class SilentError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError


def local_error() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("of a class inside of a function")


def raised(error: BaseException) -> None:
    raise error


def endless() -> None:
    endless()


FAULTS: dict[str, Callable[[], object]] = {
    "raise": lambda: raised(LookupError("a fault of the verifier's own")),
    "local class": local_error,
    "two arguments": lambda: raised(TwoArgumentsError("a", "b")),
    "unpicklable": lambda: raised(ValueError(threading.Lock())),
    "without text": lambda: raised(SilentError()),
    "many lines": lambda: raised(ValueError("first\nsecond")),
    "long": lambda: raised(ValueError("x" * 100_000)),
    "surrogate": lambda: raised(ValueError("\ud800")),
    "refuses to be caught": lambda: raised(BaseException("base")),
    "interrupt": lambda: raised(KeyboardInterrupt()),
    "exit": lambda: sys.exit("enough"),
    "group": lambda: raised(ExceptionGroup("several", [ValueError("one"), TypeError("two")])),
    "endless recursion": endless,
    "result": threading.Lock,
    "function as result": lambda: lambda: 1,
}
CAUSES = {
    "raise": "LookupError: a fault of the verifier's own (test_bounded_pool.py:",
    "local class": "LocalError: of a class inside of a function",
    "two arguments": "TwoArgumentsError: a: b",
    "unpicklable": "ValueError: <unlocked",
    "without text": "SilentError",
    "many lines": "ValueError: first (",
    "long": "ValueError: xxx",
    "surrogate": "ValueError: ?",
    "refuses to be caught": "BaseException: base",
    "interrupt": "KeyboardInterrupt",
    "exit": "SystemExit: enough",
    "group": "ExceptionGroup: several",
    "endless recursion": "RecursionError",
    "result": "TypeError: cannot pickle",
    "function as result": "AttributeError: Can't pickle",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[BoundedPool]:
    pool = BoundedPool(act, workers=2, seconds=2.0, memory_mib=1024, warm_up=("warm up",))
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("what", "reason"), [("hang", "too slow"), ("allocate", "out of memory"), ("die", "verifier died")]
)
def test_a_call_that_goes_wrong_is_ended_and_the_next_one_works(
    pool: BoundedPool, what: str, reason: str
) -> None:
    with pytest.raises(BoundedError, match=reason):
        pool.call(what)
    assert pool.call("well") == "did well"


@pytest.mark.parametrize("what", FAULTS)
def test_what_the_function_raises_is_a_cause_of_one_line_and_the_next_call_works(
    pool: BoundedPool, what: str
) -> None:
    with pytest.raises(BoundedError) as raised:
        pool.call(what)
    cause = str(raised.value)
    assert cause.startswith(CAUSES[what])
    assert len(cause) <= LONGEST_CAUSE
    assert "\n" not in cause
    assert pool.call("well") == "did well"


def test_arguments_that_cannot_be_sent_fail_their_call_only(pool: BoundedPool) -> None:
    with pytest.raises(BoundedError, match="arguments cannot be sent"):
        pool.call(threading.Lock())
    assert pool.call("well") == "did well"


def spawned() -> set[psutil.Process]:
    """The children of this process that `multiprocessing` spawned for calls."""
    return {child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())}


def test_a_process_that_dies_between_two_calls_is_replaced_and_ends_with_the_pool() -> None:
    before = spawned()
    pool = BoundedPool(act, workers=1, seconds=30, memory_mib=1024)
    assert pool.call("well") == "did well"
    for child in spawned() - before:
        child.kill()
    assert pool.call("well") == "did well"
    replacements = spawned() - before
    assert replacements
    del pool
    gc.collect()
    assert not any(child.is_running() for child in replacements), "they outlive the pool"


def slowly(what: str) -> str:
    """Get ready slowly, or never."""
    if what == "die":
        os._exit(3)
    if what == "raise":
        raise ImportError("no such library")
    if what == "hang":
        time.sleep(60)
    return what


@pytest.mark.parametrize(
    ("what", "cause"),
    [("die", "ended before it was ready"), ("raise", "ImportError: no such"), ("hang", "not ready after")],
)
def test_a_process_that_does_not_get_ready_says_why(what: str, cause: str) -> None:
    load_seconds = 0.1 if what == "hang" else 60
    # A call has ten more seconds, and its own limit.
    pool = BoundedPool(
        slowly, workers=1, seconds=0.1, memory_mib=1024, warm_up=(what,), load_seconds=load_seconds
    )
    with pytest.raises(NotLoadedError, match=cause):
        pool.call("well")


def test_calls_of_several_threads_get_their_own_answers(pool: BoundedPool) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(pool.call, map(str, range(50))))
    assert answers == [f"did {i}" for i in range(50)]


def test_the_processes_end_with_their_owner_even_if_it_is_killed() -> None:
    program = (
        "from tests.trainer.tasks.test_bounded_pool import act\n"
        "from trainer.tasks.bounded_pool import BoundedPool; import time\n"
        "if __name__ == '__main__':\n"
        "    pool = BoundedPool(act, workers=2, seconds=60, memory_mib=1024)\n"
        "    pool.call('well'); print('ready', flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    children = psutil.Process(owner.pid).children(recursive=True)
    assert children
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
