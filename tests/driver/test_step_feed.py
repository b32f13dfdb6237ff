"""The step records that a driver prints: each once, in order, also when a learner goes back; and its heartbeat."""

from __future__ import annotations

import time

import msgspec
import pytest
from redis import Redis

from services.driver.heartbeat import DriverHeartbeat
from services.driver.step_feed import StepFeed
from services.records.redis_records import RedisRecords
from services.redis.keys import RunKeys
from services.run.state import RunStatus, read_status, update_status
from tests.support.control_plane import start_run
from tests.support.step_records import record


@pytest.fixture
def run(redis: Redis, run_id: str) -> str:
    start_run(redis, run_id)
    return run_id


def status_of(redis: Redis, run: str) -> RunStatus:
    status = read_status(redis, run)
    assert status is not None
    return status


def learn(redis: Redis, run: str, steps: range, lineage: int) -> None:
    """Write the records of an incarnation, as a learner does."""
    redis.set(RunKeys(run).fence, lineage)
    sink = RedisRecords(redis, run, lineage, steps.start)
    for step in steps:
        one = record(step, lineage=lineage)
        sink.write(one)
        document = msgspec.to_builtins(one, str_keys=True)
        update_status(redis, run, phase="running", step=step + 1, record=document, epoch=lineage)


def seen(feed: StepFeed, redis: Redis, run: str) -> list[tuple[int, int]]:
    """Lineage and step of the new records."""
    return [(r["lineage"], r["step"]) for r in feed.new(redis, status_of(redis, run))]


def test_a_slow_reader_misses_no_step_and_reads_none_twice(redis: Redis, run: str) -> None:
    feed = StepFeed(run, read_status(redis, run))
    assert seen(feed, redis, run) == []
    learn(redis, run, range(7), lineage=1)
    assert seen(feed, redis, run) == [(1, step) for step in range(7)]
    assert seen(feed, redis, run) == []
    learn(redis, run, range(7, 9), lineage=1)
    assert seen(feed, redis, run) == [(1, 7), (1, 8)]


def test_steps_that_a_restarted_learner_makes_again_are_read_again(redis: Redis, run: str) -> None:
    feed = StepFeed(run, read_status(redis, run))
    learn(redis, run, range(7), lineage=1)
    assert len(seen(feed, redis, run)) == 7
    learn(redis, run, range(4, 10), lineage=2)
    assert seen(feed, redis, run) == [(2, step) for step in range(4, 10)]


def test_a_resumed_run_begins_with_its_own_steps(redis: Redis, run: str) -> None:
    learn(redis, run, range(5), lineage=1)
    feed = StepFeed(run, read_status(redis, run))
    assert seen(feed, redis, run) == []
    learn(redis, run, range(5, 7), lineage=2)
    assert seen(feed, redis, run) == [(2, 5), (2, 6)]


def test_the_driver_beats_in_its_own_phases_only(redis: Redis, run: str) -> None:
    with DriverHeartbeat(redis, run, every_seconds=0.01) as heartbeat:
        before = status_of(redis, run).heartbeat
        deadline = time.monotonic() + 10
        while (beaten := status_of(redis, run).heartbeat) == before:
            assert time.monotonic() < deadline, "no heartbeat in ten seconds"
        heartbeat.phase = "running"
        # A beat that was under way may still arrive.
        time.sleep(0.05)
        silent = status_of(redis, run).heartbeat
        time.sleep(0.1)
        assert status_of(redis, run).heartbeat == silent >= beaten
