"""`pipeline.unacked_bytes`: reading stops at the cap, checkpoints come early, and an impossible cap is reported."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from services.learner.rank_zero import RankZero
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.replay.consumer import ReplayConsumer
from services.replay.stream_reader import ENTRIES_PER_ROUND_TRIP
from tests.support.replay_harness import Queue, group_bytes, make_group
from tests.support.runs.incarnations import Incarnations
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import encode_group

GROUPS = 20
"""per role in the queue of `Incarnations`, with all base groups before all adaptive ones"""


def capped(queue: Queue, cap: int) -> ReplayConsumer:
    """A learner incarnation that reads no more than `cap` unacknowledged bytes."""
    consumer = ReplayConsumer(queue.redis, queue.run_id, max_deliveries=3, unacked_bytes=cap)
    consumer.open()
    return consumer


@pytest.fixture
def queue(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    queue = Queue(redis_access, run_id)
    yield queue
    queue.close()


def put(queue: Queue, *sizes: int) -> None:
    """Add entries of these sizes, in bytes."""
    for ordinal, size in zip(queue.lease(len(sizes)).ordinals, sizes, strict=True):
        assert queue.add(ordinal, data=bytes(size)) == "added"


def test_reading_stops_at_the_cap_and_goes_on_once_there_is_room(queue: Queue) -> None:
    put(queue, 40, 40, 40, 10)
    consumer = capped(queue, 100)
    first = consumer.read(10, 0)
    assert [entry.ordinal for entry in first] == [0, 1]
    assert consumer.budget_exhausted, "the third does not fit; the fourth, which would, does not overtake it"
    assert consumer.read(10, 0) == []
    consumer.acknowledge([first[0].entry_id])
    assert not consumer.budget_exhausted, "the consumer knows it only at the next read"
    assert [entry.ordinal for entry in consumer.read(10, 0)] == [2, 3]
    assert not consumer.budget_exhausted
    assert consumer.stats().unacknowledged_bytes == 90


def test_an_empty_queue_holds_nothing_back(queue: Queue) -> None:
    put(queue, 100)
    consumer = capped(queue, 100)
    assert len(consumer.read(10, 0)) == 1
    assert consumer.read(10, 0) == []
    assert not consumer.budget_exhausted
    put(queue, 1)
    assert consumer.read(10, 0) == []
    assert consumer.budget_exhausted


def test_a_dead_letter_makes_room_and_a_restart_makes_none(queue: Queue) -> None:
    put(queue, 60, 60, 60)
    (first,) = capped(queue, 100).read(10, 0)
    second = capped(queue, 100)
    assert [entry.entry_id for entry in second.pending()] == [first.entry_id]
    assert second.read(10, 0) == []
    assert second.budget_exhausted
    second.dead_letter(first.entry_id, "spoilt")
    assert [entry.ordinal for entry in second.read(10, 0)] == [1]


def test_a_lost_reply_and_a_fence_are_as_without_a_cap(queue: Queue) -> None:
    put(queue, 60, 60)
    consumer = capped(queue, 100)
    queue.redis.replies_before_loss = 0
    with pytest.raises(RedisConnectionError):
        consumer.read(10, 0)
    assert [entry.ordinal for entry in consumer.read(10, 0)] == [0]
    assert consumer.budget_exhausted
    queue.new_consumer()
    with pytest.raises(FencedError):
        consumer.read(10, 0)


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=ENTRIES_PER_ROUND_TRIP + 8),
    counts=st.lists(st.integers(1, 3 * ENTRIES_PER_ROUND_TRIP), min_size=1, max_size=4),
    cap=st.integers(50, 400),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_sizes_everything_is_read_once_in_order_and_never_above_the_cap(
    redis_access: RedisAccess, sizes: list[int], counts: list[int], cap: int
) -> None:
    queue = Queue(redis_access, f"cap-{uuid.uuid4().hex[:12]}")
    put(queue, *sizes)
    consumer = capped(queue, cap)
    seen: list[int] = []
    while len(seen) < len(sizes):
        entries = consumer.read(counts[len(seen) % len(counts)], 0)
        seen += [entry.ordinal for entry in entries]
        held = consumer.stats().unacknowledged_bytes
        assert held <= cap
        if not entries:
            assert consumer.budget_exhausted
            assert held + sizes[len(seen)] > cap, "reading stopped although the next entry fits"
            pending: Any = queue.redis.xpending_range(
                queue.keys.trajectories, "learner", min="-", max="+", count=1000
            )
            consumer.acknowledge([item["message_id"].decode() for item in pending])
    assert seen == list(range(len(sizes)))
    queue.close()


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def limit(incarnations: Incarnations, groups: float) -> int:
    """Set the cap to the size of that many groups; returns bytes."""
    size = max(len(group_bytes(role, GROUPS - 1)) for role in ("base", "adaptive")) + 64
    cap = int(groups * size)
    pipeline = incarnations.config.pipeline.model_copy(update={"unacked_bytes": cap})
    incarnations.config = incarnations.config.model_copy(update={"pipeline": pipeline})
    return cap


def advance(incarnations: Incarnations, learner: RankZero, until: int) -> list[str]:
    """Learn up to that step and take every checkpoint that is ordered; returns the kinds of orders."""
    kinds = []
    while incarnations.step < until:
        order, _ = learner.next_order(incarnations.step)
        kinds.append(order.kind)
        if order.kind == "step":
            incarnations.step += 1
        elif order.kind == "checkpoint":
            incarnations.checkpoint(learner)
            learner.answer_checkpoint()
        cap = incarnations.config.pipeline.unacked_bytes
        assert incarnations.queue.stats.unacknowledged_bytes <= cap
    return kinds


def test_a_learner_takes_checkpoints_early_and_stays_within_the_cap(incarnations: Incarnations) -> None:
    limit(incarnations, GROUPS + 6)
    kinds = advance(incarnations, incarnations.begin(), GROUPS)
    assert GROUPS / 2 < kinds.count("checkpoint") <= GROUPS + 1
    assert incarnations.queue.stats.read == 2 * GROUPS
    assert incarnations.queue.stats.dead_lettered == 0


def test_checkpoints_begin_before_the_cap_is_reached_since_the_first_one_frees_nothing(
    incarnations: Incarnations, run_id: str
) -> None:
    """The groups consumed since the last checkpoint fill the cap when the groups of the next step arrive."""
    limit(incarnations, 2 * GROUPS + 3)
    learner = incarnations.begin()
    advance(incarnations, learner, GROUPS)
    for step in range(GROUPS, GROUPS + 10):
        for role in ("base", "adaptive"):
            assert incarnations.queue.lease(1, role=role).ordinals == [step]
            group = msgspec.structs.replace(make_group(role, step), run_id=run_id)
            incarnations.queue.add(step, role=role, data=encode_group(group, size_cap=1 << 20))
        advance(incarnations, learner, step + 1)


def test_with_room_enough_no_checkpoint_comes_early(incarnations: Incarnations) -> None:
    limit(incarnations, 5 * GROUPS)
    learner = incarnations.begin()
    assert set(advance(incarnations, learner, GROUPS)) == {"step"}
    assert incarnations.queue.stats.acknowledged == 0


def test_a_learner_that_goes_on_from_a_checkpoint_keeps_within_the_cap(incarnations: Incarnations) -> None:
    limit(incarnations, 5 * GROUPS)
    first = incarnations.begin()
    advance(incarnations, first, 4)
    incarnations.checkpoint(first)
    advance(incarnations, first, 6)
    limit(incarnations, 2 * GROUPS + 1)
    second = incarnations.begin()
    assert incarnations.step == 4
    kinds = advance(incarnations, second, GROUPS)
    assert kinds[:2] == ["step", "checkpoint"], "no checkpoint may come at the first boundary"


def test_a_cap_that_cannot_hold_what_a_step_needs_ends_the_run_with_its_name(
    incarnations: Incarnations,
) -> None:
    """The adaptive group of step 0 is the twenty-first in the queue."""
    limit(incarnations, GROUPS / 2)
    learner = incarnations.begin()

    def learn() -> None:
        for _ in range(10):
            order, _ = learner.next_order(0)
            assert order.kind in ("idle", "checkpoint")
            if order.kind == "checkpoint":
                incarnations.checkpoint(learner)

    with pytest.raises(ScopeError, match=r"pipeline\.unacked_bytes=[\d,]+ is too small.*--resume"):
        learn()
