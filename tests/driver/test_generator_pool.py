"""The driver's supervision of its generators, with real Ray actors instead of engines."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from services.driver.generator_pool import GeneratorPool
from services.generation.spec import GeneratorSpec
from services.redis.access import RedisAccess
from tests.support.generation import generator_stub
from tests.support.generation.generator_stub import Stub
from tests.support.local_ray import local_ray
from trainer.config import RunConfig
from trainer.errors import ScopeError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A local Ray for the module; its workers get the stubs by value, because they cannot import tests."""
    for module in (generator_stub, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    with local_ray(8):
        yield


Start = Callable[..., GeneratorPool]


@pytest.fixture
def start(run_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a pool of `count` running stubs."""
    pools: list[GeneratorPool] = []

    def begin(count: int, first: int = 0, kind: type[Stub] = Stub) -> GeneratorPool:
        monkeypatch.setattr("services.driver.generator_pool.GeneratorActor", ray.remote(kind))
        config = RunConfig.model_validate({"generators": {"max_restarts": 1, "cpus_per_generator": 0.1}})
        access = RedisAccess("redis://127.0.0.1:1/0")
        pool = GeneratorPool(
            [GeneratorSpec(run_id, "base", first + i, config, "", access, None) for i in range(count)]
        )
        pools.append(pool)
        pool.wait_ready(lambda: None)
        pool.run()
        return pool

    yield begin
    for pool in pools:
        pool.stop(timeout=5)


def kill(pool: GeneratorPool) -> None:
    handle: Any = pool._members["base-generator-0"].handle
    os.kill(ray.get(handle.process_id.remote()), signal.SIGKILL)


def notes(pool: GeneratorPool, count: int) -> list[str]:
    """Supervise until there are `count` notes."""
    found, deadline = [], time.monotonic() + 120
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += pool.supervise()
        time.sleep(0.1)
    return found


def test_a_generator_that_dies_too_often_in_a_row_ends_the_run(start: Start) -> None:
    pool = start(1)
    kill(pool)
    ended, back = notes(pool, 2)
    assert ended.startswith("base-generator-0 ended and is restarted (1 of 1): ActorDiedError")
    assert back == "base-generator-0 is back"
    kill(pool)
    with pytest.raises(ScopeError, match=r"ended again after generators\.max_restarts=1 restarts"):
        notes(pool, 1)


def test_a_generator_that_worked_for_a_while_has_all_its_restarts_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.driver.generator_pool.HEALTHY_SECONDS", 0.0)
    pool = start(1)
    for _ in range(2):
        kill(pool)
        assert notes(pool, 2)[0].startswith("base-generator-0 ended and is restarted (1 of 1)")
    assert pool._members["base-generator-0"].spec.restarts == 2


def test_the_share_of_a_generator_that_dies_in_an_evaluation_goes_to_the_others(start: Start) -> None:
    assert [counts.correct for counts in start(3).evaluate(8, 4, 1.0)] == list(range(8))


def test_an_evaluation_without_generators_names_the_last_death(start: Start) -> None:
    with pytest.raises(
        ScopeError, match="every generator ended during the evaluation; the last one: ActorDied"
    ):
        start(1, first=1).evaluate(8, 4, 1.0)


def test_generators_finish_what_they_are_sending_before_they_are_ended(start: Start, tmp_path: Path) -> None:
    class Sending(Stub):
        async def run(self) -> None:
            await super().run()
            (tmp_path / self._spec.generator_id).touch()

    start(2, kind=Sending).stop()
    assert {path.name for path in tmp_path.iterdir()} == {"base-generator-0", "base-generator-1"}


def test_a_generator_that_does_not_stop_is_ended_all_the_same(start: Start) -> None:
    class Stuck(Stub):
        async def stop(self) -> None:
            self._stopped = False

    pool, began = start(1, kind=Stuck), time.monotonic()
    (process,) = [ray.get(member.handle.process_id.remote()) for member in pool._members.values()]
    pool.stop(timeout=0.5)
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() - began < 30
        time.sleep(0.05)


def test_waiting_for_engines_ends_when_they_are_not_wanted_any_more(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Stub):
        async def start(self) -> int:
            import asyncio

            await asyncio.sleep(3600)
            return 0

    monkeypatch.setattr("services.driver.generator_pool.GeneratorActor", ray.remote(Slow))
    config = RunConfig.model_validate({"generators": {"cpus_per_generator": 0.1}})
    pool = GeneratorPool([GeneratorSpec(run_id, "base", 0, config, "", RedisAccess("redis://x/0"), None)])

    def unwanted() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        pool.wait_ready(unwanted)
    pool.stop(timeout=2)
