"""Fixtures shared by the tests: one embedded Redis for the session, and a run of its own for each test."""

import socket
import uuid
from collections.abc import Iterator

import pytest
from redis import Redis

from services.redis_client import RedisAccess
from services.redis_server import EmbeddedRedis
from trainer.config import RedisConfig


@pytest.fixture(scope="session")
def redis_access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisAccess]:
    """Access to a real server that lives as long as the test session."""
    folder = tmp_path_factory.mktemp("redis")
    with EmbeddedRedis(RedisConfig(), data_dir=folder / "data", state_dir=folder / "state") as server:
        yield server.access


@pytest.fixture
def redis(redis_access: RedisAccess) -> Iterator[Redis]:
    """A client of the session's server."""
    with redis_access.sync() as client:
        yield client


@pytest.fixture
def run_id() -> str:
    """A run that no other test uses."""
    return f"run-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def unused_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
