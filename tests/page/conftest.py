"""A browser on the page of a served control plane, and a run to show."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from redis import Redis

from services.redis.access import RedisAccess
from tests.support.browser import chromium, watched
from tests.support.control_plane import start_run
from tests.support.page_harness import (
    served,
)


@pytest.fixture(scope="module")
def server(redis_access: RedisAccess) -> Iterator[str]:
    with served(redis_access) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def expected() -> list[str]:
    """Patterns of console errors that a test provokes; any other console error fails it."""
    return []


@pytest.fixture
def page(browser: Browser, expected: list[str]) -> Iterator[Page]:
    with watched(browser, expected) as page:
        yield page


@pytest.fixture
def run(redis: Redis) -> str:
    run = f"page-{uuid.uuid4().hex[:8]}"
    start_run(redis, run)
    return run
