"""An empty replay queue of one run, and one of small capacity."""

from collections.abc import Iterator

import pytest

from services.redis.access import RedisAccess
from tests.support.replay_harness import Queue


@pytest.fixture
def queue(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    queue = Queue(redis_access, run_id)
    yield queue
    queue.close()


@pytest.fixture
def small(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    """A queue with room for three unread groups."""
    queue = Queue(redis_access, run_id, capacity=3)
    yield queue
    queue.close()
