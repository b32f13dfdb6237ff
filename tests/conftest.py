"""Fixtures shared by all tests: one embedded Redis and one pair of engines per session, and a new run for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from redis import Redis

from services.redis.access import RedisAccess
from services.redis.embedded import EmbeddedRedis
from tests.support.ports import free_ports
from trainer.config import RedisConfig

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from tests.chaos.subject import Subject
    from tests.support.generation.engines import Engines
    from tests.support.runs.run_harness import Run

# No deadline, because a busy machine can stall any example; derandomized, so that a failure can be reproduced.
settings.register_profile("scope", deadline=None, derandomize=True)
settings.load_profile("scope")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that make some tests longer."""
    parser.addoption(
        "--api-cases", type=int, default=80, help="requests to each group of the control plane's routes"
    )
    parser.addoption(
        "--chaos", action="store_true", help="also the tests marked chaos: faults on whole runs and clusters"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group tests by worker, order the groups, and skip the tests marked `chaos` unless `--chaos` is given.

    The tests of a file share a worker, because they share fixtures. So do all tests that use the whole runs, and all
    tests that use or start engines, which take a minute to start. The whole runs come first, because they take longest.
    The engines come last: run at the same time as a whole run, there would be four engines of 2 GiB each.
    """
    order: dict[str, int] = {"whole runs": 0, "engines": 3}
    places: dict[pytest.Item, tuple[int, bool]] = {}
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        samples = "engines" in fixtures or item.get_closest_marker("engine") is not None
        group = "whole runs" if "canary" in fixtures else "engines" if samples else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
        chaos = item.get_closest_marker("chaos") is not None
        if chaos and not config.getoption("--chaos"):
            item.add_marker(
                pytest.mark.skip(reason="minutes of faults on whole runs and clusters: pytest --chaos")
            )
        first = 1 if chaos else 2
        places[item] = order.get(group, first), item.path.name == "test_campaign.py"
    items.sort(key=lambda item: places[item])


@pytest.fixture(scope="session")
def redis_access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisAccess]:
    """Access to a real server that lives as long as the test session."""
    folder = tmp_path_factory.mktemp("redis")
    with EmbeddedRedis(RedisConfig(), data_dir=folder / "data", state_dir=folder / "state") as server:
        yield server.access


@pytest.fixture
def redis(redis_access: RedisAccess) -> Iterator[Redis]:
    """A client of the session's Redis server."""
    with redis_access.sync() as client:
        yield client


@pytest.fixture
def run_id() -> str:
    """The id of a run that no other test uses."""
    return f"run-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def client(redis_access: RedisAccess) -> Iterator[TestClient]:
    """A control plane in this process, over the session's Redis server."""
    from starlette.testclient import TestClient

    from services.control_plane.app import create_app
    from tests.support.control_plane import AMPLE

    with TestClient(create_app(redis_access, AMPLE), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def run(redis: Redis, run_id: str) -> str:
    """A run that has just started."""
    from tests.support.control_plane import start_run

    start_run(redis, run_id)
    return run_id


@pytest.fixture
def unused_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    (port,) = free_ports(1)
    return port


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory of a small policy that solves some of an easy Countdown."""
    from tests.support.generation.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A complete run that has ended."""
    from tests.support.runs.whole_runs import canary_run

    return canary_run(tmp_path_factory.mktemp("end-to-end") / "runs")


@pytest.fixture(scope="session")
def live(canary: Run) -> Iterator[Subject]:
    """A complete run that is in progress until the fault tests stop it."""
    from tests.support.runs.whole_runs import live_run

    subject = live_run(canary)
    yield subject
    subject.kill()


@pytest.fixture(scope="session")
def engines(tiny_model_dir: Path) -> Iterator[Engines]:
    """A base and an adaptive engine for the session."""
    from services.inference.environment import engine_environment
    from tests.support.generation.tiny import tiny_config

    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(tiny_config()).items():
            patch.setenv(name, value)
        from tests.support.generation.engines import Engines

        engines = Engines(tiny_model_dir)
    yield engines
    engines.close()
