"""Verifier processes: one that hangs, exhausts memory or dies is terminated, and the next call works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from trainer.tasks.bounded_pool import BoundedError, BoundedPool

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
    if what == "raise":
        raise LookupError("a fault of the verifier's own")
    return f"did {what}"


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


def test_what_the_function_raises_is_raised(pool: BoundedPool) -> None:
    with pytest.raises(LookupError, match="of the verifier's own"):
        pool.call("raise")


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
