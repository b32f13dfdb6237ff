"""How finished groups enter the queue: batches, back pressure, errors, and cancelled callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.redis.access import RedisAccess
from services.replay.outbox import BATCH_BYTES, BATCH_GROUPS, Outbox
from services.replay.producer import AddOutcome, Finished, ReplayProducer
from tests.support.replay_harness import Queue
from trainer.roles import Role


class Recording(ReplayProducer):
    """A producer that records what each round trip sent, and fails in the round trips in `fails`."""

    def __init__(self, queue: Queue, capacity: int = 1000) -> None:
        super().__init__(queue._async_redis, queue.run_id, capacity=capacity)
        self.trips: list[list[int]] = []
        self.fails: dict[int, Exception] = {}

    async def add(self, role: Role, producer_id: str, groups: Sequence[Finished]) -> list[AddOutcome]:
        self.trips.append([group.ordinal for group in groups])
        if error := self.fails.get(len(self.trips) - 1):
            await asyncio.sleep(0)
            raise error
        return await super().add(role, producer_id, groups)


@pytest.fixture
def queue(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    queue = Queue(redis_access, run_id)
    yield queue
    queue.close()


def group(ordinal: int, size: int = 10) -> Finished:
    return Finished(ordinal, 0, b"x" * size)


def test_what_is_ready_while_a_batch_is_under_way_goes_together_and_in_order(queue: Queue) -> None:
    queue.lease(100)
    producer = Recording(queue)
    outbox = Outbox(producer, "base", "g0")

    async def scene() -> list[AddOutcome]:
        first = asyncio.create_task(outbox.put(group(0)))
        while not producer.trips:
            await asyncio.sleep(0)
        return [await first, *await asyncio.gather(*(outbox.put(group(i)) for i in range(1, 100)))]

    assert queue.run(scene()) == ["added"] * 100
    assert producer.trips[0] == [0], "a single group must not wait"
    assert [len(trip) for trip in producer.trips[1:]] == [BATCH_GROUPS, 99 - BATCH_GROUPS]
    assert [entry.ordinal for entry in queue.consumer.read(100, 0)] == list(range(100))


def test_a_batch_is_bounded_by_its_bytes_and_a_larger_group_goes_alone(queue: Queue) -> None:
    queue.lease(4)
    producer = Recording(queue)
    outbox = Outbox(producer, "base", "g0")
    sizes = [BATCH_BYTES // 2, BATCH_BYTES // 2, 2 * BATCH_BYTES, 10]

    async def scene() -> None:
        await asyncio.gather(*(outbox.put(group(i, size)) for i, size in enumerate(sizes)))

    queue.run(scene())
    assert producer.trips == [[0, 1], [2], [3]]


def test_a_full_queue_is_waited_for_and_what_fits_enters(queue: Queue) -> None:
    queue.lease(5)
    outbox = Outbox(Recording(queue, capacity=3), "base", "g0")

    async def scene() -> float:
        putting = [asyncio.create_task(outbox.put(group(i))) for i in range(5)]
        await asyncio.sleep(0.15)
        assert [task.done() for task in putting] == [True] * 3 + [False] * 2
        assert len(queue.consumer.read(2, 0)) == 2
        read_at = time.monotonic()
        assert await asyncio.wait_for(asyncio.gather(*putting), 5) == ["added"] * 5
        return time.monotonic() - read_at

    assert queue.run(scene()) < 1.5
    assert queue.stats.refused_full >= 2


def test_a_duplicate_and_a_group_that_nobody_leased_concern_themselves_alone(queue: Queue) -> None:
    queue.lease(3)
    queue.add(1)
    outbox = Outbox(Recording(queue), "base", "g0")

    async def scene() -> list[AddOutcome | BaseException]:
        return await asyncio.gather(*(outbox.put(group(i)) for i in (0, 1, 7, 2)), return_exceptions=True)

    first, again, never, last = queue.run(scene())
    assert [first, again, last] == ["added", "duplicate", "added"]
    assert isinstance(never, ValueError)
    assert "base:7 was never leased" in str(never)


def test_an_error_of_redis_reaches_those_of_its_batch_and_the_next_one_goes(queue: Queue) -> None:
    queue.lease(4)
    producer = Recording(queue)
    producer.fails[0] = RedisConnectionError("away")
    outbox = Outbox(producer, "base", "g0")

    async def scene() -> list[AddOutcome | BaseException]:
        early = [asyncio.create_task(outbox.put(group(i))) for i in (0, 1)]
        while not producer.trips:
            await asyncio.sleep(0)
        late = [asyncio.create_task(outbox.put(group(i))) for i in (2, 3)]
        return await asyncio.gather(*early, *late, return_exceptions=True)

    outcomes = queue.run(scene())
    assert [str(outcome) for outcome in outcomes] == ["away", "away", "added", "added"]
    assert producer.trips == [[0, 1], [2, 3]]


def test_a_group_whose_caller_is_gone_is_not_sent(queue: Queue) -> None:
    queue.lease(3)
    producer = Recording(queue)
    outbox = Outbox(producer, "base", "g0")

    async def scene() -> None:
        first = asyncio.create_task(outbox.put(group(0)))
        while not producer.trips:
            await asyncio.sleep(0)
        gone, last = (asyncio.create_task(outbox.put(group(i))) for i in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.gather(first, last) == ["added", "added"]

    queue.run(scene())
    assert producer.trips == [[0], [2]]


def test_what_waits_is_given_up_at_the_end(queue: Queue) -> None:
    queue.lease(2)
    producer = Recording(queue)
    outbox = Outbox(producer, "base", "g0")

    async def scene() -> None:
        under_way = asyncio.create_task(outbox.put(group(0)))
        while not producer.trips:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(outbox.put(group(1)))
        await asyncio.sleep(0)
        await outbox.end()
        under_way.cancel()
        outcomes = await asyncio.gather(under_way, waiting, return_exceptions=True)
        assert isinstance(outcomes[1], asyncio.CancelledError)

    queue.run(scene())
    assert producer.trips == [[0]]
