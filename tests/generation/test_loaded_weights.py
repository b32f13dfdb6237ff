"""Which policy version a generator's engine runs and whether it is trusted, with a stand-in for the engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from services.generation.loaded_weights import LoadedWeights
from services.weights.probe import Probe
from services.weights.process_group import TransferError
from trainer.rollouts.trajectory import PolicyVersion

PAYLOAD, PROBE = np.zeros(1, np.uint8), Probe([1, 2], [-0.5])
OLD, NEW, NEWER = PolicyVersion(1, 3), PolicyVersion(1, 4), PolicyVersion(2, 0)


def on_event_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test on its own event loop."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Engine:
    """Records the calls; each fails with the next of `failures`, and waits while `gate` is closed."""

    def __init__(self, *failures: Exception | None) -> None:
        self.calls: list[Any] = []
        self.failures = list(failures)
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, version: PolicyVersion, payload: np.ndarray, probe: Probe) -> None:
        await self._call("load", version)

    async def load_received(self, version: PolicyVersion, probe: Probe) -> None:
        await self._call("load_received", version)

    async def verify(self, probe: Probe) -> None:
        await self._call("verify")

    async def join_group(self, rendezvous: Any, first_rank: int) -> None:
        await self._call("join_group", first_rank)

    async def receive(self, buckets: str) -> None:
        await self._call("receive", buckets)

    async def _call(self, *call: Any) -> None:
        self.calls.append(call)
        await self.gate.wait()
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure


def attached(
    engine: Any, version: PolicyVersion | None = OLD, **callbacks: Callable[[], None]
) -> LoadedWeights:
    weights = LoadedWeights(version, **callbacks)
    weights.attach(engine)
    return weights


async def is_trusted(weights: LoadedWeights) -> bool:
    try:
        await asyncio.wait_for(weights.trusted(), 0.02)
    except TimeoutError:
        return False
    return True


@on_event_loop
async def test_a_load_replaces_the_version_and_is_not_trusted_until_it_ends() -> None:
    engine, seen = Engine(), []
    weights = attached(
        engine,
        before_load=lambda: seen.append(("before", weights.loading, weights.version)),
        after_load=lambda: seen.append(("after", weights.loading, weights.version)),
    )
    assert await is_trusted(weights)
    engine.gate.clear()
    loading = asyncio.create_task(weights.load(NEW, PAYLOAD, PROBE))
    await asyncio.sleep(0)
    assert (weights.loading, weights.version, await is_trusted(weights)) == (True, OLD, False)
    engine.gate.set()
    assert await loading >= 0
    assert (weights.loading, weights.version, await is_trusted(weights)) == (False, NEW, True)
    assert seen == [("before", False, OLD), ("after", False, NEW)]
    assert (engine.calls, weights.loads) == ([("load", NEW)], 1)


@on_event_loop
async def test_an_older_version_is_skipped_and_the_same_one_only_verified() -> None:
    engine, loads = Engine(), []
    weights = attached(engine, NEW, before_load=lambda: loads.append("load"))
    assert await weights.load(OLD, PAYLOAD, PROBE) == 0.0
    assert (engine.calls, loads, weights.version) == ([], [], NEW)
    await weights.load(NEW, PAYLOAD, PROBE)
    assert (engine.calls, weights.version, weights.loads) == ([("verify",)], NEW, 0)
    await weights.load(NEWER, PAYLOAD, PROBE)
    assert (weights.version, weights.loads) == (NEWER, 1), "a later lineage is newer, whatever its step"


@on_event_loop
async def test_a_generator_without_a_version_takes_the_first_one_it_is_sent() -> None:
    weights = attached(Engine(), None)
    await weights.load(OLD, PAYLOAD, PROBE)
    assert (weights.version, weights.loads) == (OLD, 1)


@on_event_loop
async def test_a_load_that_fails_is_never_trusted_and_keeps_its_error() -> None:
    error, ended = RuntimeError("another policy runs"), []
    weights = attached(Engine(error), after_load=lambda: ended.append(weights.failure))
    with pytest.raises(RuntimeError, match="another policy runs"):
        await weights.load(NEW, PAYLOAD, PROBE)
    assert (weights.failure, weights.version, weights.loading) == (error, OLD, False)
    assert not await is_trusted(weights)
    assert ended == [error], "the generator must be told once the failure is known"


@on_event_loop
async def test_a_broadcast_that_does_not_arrive_leaves_the_version_trusted() -> None:
    engine = Engine(TransferError("a member was lost"))
    weights = attached(engine)
    with pytest.raises(TransferError):
        await weights.receive(NEW, "buckets", PROBE)
    assert (weights.version, weights.failure, await is_trusted(weights)) == (OLD, None, True)
    await weights.receive(NEW, "buckets", PROBE)
    assert engine.calls == [("receive", "buckets"), ("receive", "buckets"), ("load_received", NEW)]
    assert weights.version == NEW


@on_event_loop
async def test_loads_and_groups_wait_for_the_engine() -> None:
    engine: Any = Engine()
    weights, rendezvous = LoadedWeights(None), Any
    waiting = [
        asyncio.create_task(weights.load(NEW, PAYLOAD, PROBE)),
        asyncio.create_task(weights.join_broadcasts(rendezvous, 2)),  # pyright: ignore[reportArgumentType]
    ]
    await asyncio.sleep(0.02)
    assert not engine.calls
    weights.attach(engine)
    await asyncio.gather(*waiting)
    assert engine.calls == [("load", NEW), ("join_group", 2)]
