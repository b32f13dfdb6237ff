"""What a core loses while the one beside it works: the bound that the machine sets to any overlap of two parts."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

import torch

SIDE, ELEMENTS = 512, 16_000_000
ROUNDS, SECONDS = 5, 1.0
KINDS = ("matrix products", "memory")
"""what stays in a core's own cache, and what streams through memory, as the weights of a large model do"""


def beside_a_busy_core(cores: list[int]) -> dict[str, float]:
    """By kind of work: its speed on the first core while the last does the same, over that while the last idles."""
    context = multiprocessing.get_context("spawn")
    ratios = context.Queue()
    worker = context.Process(target=_compare, args=(cores[0], cores[-1], ratios))
    worker.start()
    found = ratios.get(timeout=300)
    worker.join()
    return found


def _compare(first: int, last: int, ratios: multiprocessing.Queue[dict[str, float]]) -> None:
    ratios.put({kind: statistics.median(_ratios(kind, first, last)) for kind in KINDS})


def _ratios(kind: str, first: int, last: int) -> Iterator[float]:
    work = _work(kind, first)
    for _ in range(ROUNDS):
        before = _rate(work)
        with _busy(kind, last):
            beside = _rate(work)
        yield 2 * beside / (before + _rate(work))


def _work(kind: str, core: int) -> Callable[[], object]:
    os.sched_setaffinity(0, [core])
    torch.set_num_threads(1)
    if kind == "memory":
        values = torch.ones(ELEMENTS)
        return lambda: values.neg_()
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    return lambda: a @ b


def _rate(work: Callable[[], object]) -> float:
    done, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < SECONDS:
        work()
        done += 1
    return done / took


@contextmanager
def _busy(kind: str, core: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    started, stop = context.Event(), context.Event()
    worker = context.Process(target=_work_until, args=(kind, core, started, stop))
    worker.start()
    try:
        if not started.wait(120):
            raise RuntimeError("the neighbour did not start")
        yield
    finally:
        stop.set()
        worker.join()


def _work_until(kind: str, core: int, started: Event, stop: Event) -> None:
    work = _work(kind, core)
    started.set()
    while not stop.is_set():
        work()
