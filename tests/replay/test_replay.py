"""The replay queue, one rule at a time, on a real server."""

import time
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.redis.keys import CONSUMER_GROUP, CONSUMER_NAME
from services.replay.dead_letters import UnknownDeadLetter
from services.replay.entries import Entry
from services.replay.stream_reader import ENTRIES_PER_ROUND_TRIP
from tests.support.replay_harness import SIZE_CAP, Queue
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import decode_group


def group_ids(entries: list[Entry]) -> list[str]:
    return [entry.group_id for entry in entries]


# --- reading, acknowledging, trimming


def test_entries_are_read_whole_and_in_admission_order(queue: Queue) -> None:
    count = 2 * ENTRIES_PER_ROUND_TRIP + 3
    queue.lease(count)
    for ordinal in reversed(range(count)):
        queue.add(ordinal, data=b"%d" % ordinal)
    first, rest = queue.consumer.read(5, 0), queue.consumer.read(1000, 0)
    assert [entry.ordinal for entry in first + rest] == list(reversed(range(count)))
    assert all(entry.data == b"%d" % entry.ordinal for entry in first + rest)
    assert {(e.role, e.attempt, e.producer_id, e.deliveries) for e in first} == {("base", 0, "g0", 1)}


def test_reading_waits_for_the_first_group_only(queue: Queue) -> None:
    started = time.monotonic()
    assert queue.consumer.read(2, 200) == []
    assert 0.2 <= time.monotonic() - started < 1
    queue.fill(1)
    started = time.monotonic()
    assert len(queue.consumer.read(2, 5000)) == 1
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("replies", [0, 1])
def test_a_lost_reply_loses_no_entry_and_counts_nothing_twice(queue: Queue, replies: int) -> None:
    queue.fill(5)
    first = queue.consumer.read(1, 0)
    queue.redis.replies_before_loss = replies
    with pytest.raises(RedisConnectionError):
        queue.consumer.read(2, 0)
    rest = queue.consumer.read(10, 0)
    assert [entry.ordinal for entry in first + rest] == [0, 1, 2, 3, 4]
    assert queue.stats.read == 5
    assert queue.stats.unacknowledged_bytes == sum(len(entry.data) for entry in first + rest)


def test_a_redis_that_forgot_its_scripts_loses_no_entry(queue: Queue) -> None:
    queue.fill(5)
    first = queue.consumer.read(1, 0)
    queue.redis.script_flush()
    assert group_ids(first + queue.consumer.read(10, 0)) == [f"base:{i}:0" for i in range(5)]
    assert queue.stats.read == 5


def test_what_a_fenced_learner_took_is_read_before_anything_else(queue: Queue) -> None:
    queue.fill(3 * ENTRIES_PER_ROUND_TRIP)
    fenced, taken = queue.consumer, ENTRIES_PER_ROUND_TRIP + 5
    fenced.read(1, 0)
    newer = queue.new_consumer()
    for count in (ENTRIES_PER_ROUND_TRIP, 5):
        queue.redis.xreadgroup(CONSUMER_GROUP, CONSUMER_NAME, {queue.keys.trajectories: ">"}, count=count)
    assert queue.stats.read == 1
    entries = [*newer.pending(), *newer.read(2, 0), *newer.read(1000, 0)]
    assert [entry.ordinal for entry in entries] == list(range(3 * ENTRIES_PER_ROUND_TRIP))
    assert [entry.deliveries for entry in entries[: taken + 1]] == [2] + [1] * taken
    assert queue.stats.read == queue.stats.pending == 3 * ENTRIES_PER_ROUND_TRIP


def test_a_taken_entry_that_was_deleted_is_said_to_be_lost(queue: Queue) -> None:
    queue.fill(2)
    reply: Any = queue.redis.xreadgroup(
        CONSUMER_GROUP, CONSUMER_NAME, {queue.keys.trajectories: ">"}, count=1
    )
    entry_id: bytes = reply[0][1][0][0]
    queue.redis.xdel(queue.keys.trajectories, entry_id)
    with pytest.raises(ResponseError, match=f"LOST entry {entry_id.decode()} is pending but was deleted"):
        queue.consumer.read(2, 0)


def test_what_was_read_stays_until_it_is_acknowledged(queue: Queue) -> None:
    queue.fill(4)
    entries = queue.consumer.read(3, 0)
    assert queue.consumer.acknowledge([entries[0].entry_id, entries[2].entry_id]) == 2
    assert queue.consumer.acknowledge([entries[0].entry_id]) == 0
    assert queue.consumer.trim() == 1, "the second entry is pending: it and all later ones stay"
    assert queue.redis.xlen(queue.keys.trajectories) == 3
    assert (queue.stats.acknowledged, queue.stats.pending, queue.stats.unread) == (2, 1, 1)
    assert queue.stats.unacknowledged_bytes == len(entries[1].data)
    assert queue.stats.produced_bytes - queue.stats.released_bytes == 2 * len(entries[1].data)


def test_trim_keeps_unread_groups(queue: Queue) -> None:
    assert queue.consumer.trim() == 0
    queue.fill(2)
    assert queue.consumer.trim() == 0
    queue.consumer.acknowledge([entry.entry_id for entry in queue.consumer.read(1, 0)])
    assert queue.consumer.trim() == 1
    assert group_ids(queue.consumer.read(5, 0)) == ["base:1:0"]


# --- dead letters


def test_a_dead_letter_leaves_the_queue_and_keeps_its_reason(queue: Queue) -> None:
    queue.fill(3)
    entries = queue.consumer.read(3, 0)
    queue.redis.replies_before_loss = 0
    with pytest.raises(RedisConnectionError):
        queue.consumer.dead_letter(entries[1].entry_id, "dead lineage")
    assert not queue.consumer.dead_letter(entries[1].entry_id, "dead lineage"), (
        "it was dead-lettered before the reply was lost"
    )
    (letter,) = queue.admin.dead_letters()
    assert (letter.group_id, letter.reason, letter.deliveries) == ("base:1:0", "dead lineage", 1)
    assert (queue.stats.dead_lettered, queue.stats.pending, queue.stats.dead_letters) == (1, 2, 1)
    assert queue.consumer.lost("base", [0, 1, 2, 3]) == {1}
    assert queue.consumer.lost("adaptive", [0, 1]) == set()
    assert queue.consumer.lost("base", []) == set()


def test_a_requeued_letter_returns_once_under_the_next_attempt(queue: Queue) -> None:
    queue.fill(1)
    for attempt in (1, 2):
        (entry,) = queue.consumer.read(5, 0)
        queue.consumer.dead_letter(entry.entry_id, "too old")
        (letter,) = queue.admin.dead_letters()
        outcome = queue.admin.requeue(letter.letter_id, by="ada")
        assert (outcome.became, outcome.by) == (f"base:0:{attempt}", "ada")
        assert queue.consumer.lost("base", [0]) == set()
        assert queue.admin.requeue(letter.letter_id, by="bob") == outcome, (
            "a repetition must return the first outcome"
        )
    (again,) = queue.consumer.read(5, 0)
    assert again.group_id == decode_group(again.data, size_cap=SIZE_CAP).group_id == "base:0:2"
    assert queue.add(0, attempt=2) == "duplicate"
    assert queue.stats.requeued == 2


def test_a_requeue_whose_reply_was_lost_is_repeated_safely(queue: Queue) -> None:
    queue.fill(1)
    queue.consumer.dead_letter(queue.consumer.read(1, 0)[0].entry_id, "too old")
    (letter,) = queue.admin.dead_letters()
    queue.redis.replies_before_loss = 0
    with pytest.raises(RedisConnectionError):
        queue.admin.requeue(letter.letter_id)
    assert queue.admin.requeue(letter.letter_id).became == "base:0:1"
    assert group_ids(queue.consumer.read(5, 0)) == ["base:0:1"]
    assert (queue.stats.produced, queue.stats.duplicates, queue.stats.requeued) == (2, 0, 1)
    assert queue.admin.dead_letters() == []


def test_an_undecodable_letter_can_only_be_purged_and_that_is_recorded(queue: Queue) -> None:
    queue.lease(1)
    queue.add(0, data=b"rubbish")
    queue.consumer.dead_letter(queue.consumer.read(1, 0)[0].entry_id, "undecodable")
    (letter,) = queue.admin.dead_letters()
    with pytest.raises(ScopeError, match="cannot be requeued: not a group"):
        queue.admin.requeue(letter.letter_id)
    (outcome,) = queue.admin.purge([letter.letter_id, "1-1"], "spoilt by a bad disk")
    assert queue.admin.purge([letter.letter_id], "again") == [outcome], (
        "a repetition must return the first outcome"
    )
    with pytest.raises(UnknownDeadLetter, match="purged it \\(spoilt by a bad disk"):
        queue.admin.requeue(letter.letter_id)
    assert queue.admin.dead_letters() == []
    ((_, record),) = cast("list[Any]", queue.redis.xrange(queue.keys.dead_letter_outcomes))
    assert (record[b"group"], record[b"outcome"]) == (b"base:0:0", b"purged")
    assert record[b"reason"] == b"spoilt by a bad disk"
    assert queue.consumer.lost("base", [0]) == {0}, "a purged group must still count as lost"
    assert queue.stats.purged == 1


def test_requeueing_respects_the_capacity(small: Queue) -> None:
    small.fill(3)
    small.consumer.dead_letter(small.consumer.read(1, 0)[0].entry_id, "too old")
    small.fill(1)
    (letter,) = small.admin.dead_letters()
    with pytest.raises(ScopeError, match=r"pipeline.queue_capacity=3"):
        small.admin.requeue(letter.letter_id)
    assert small.admin.dead_letters() == [letter]


def test_the_consumer_group_has_one_consumer(queue: Queue) -> None:
    queue.fill(2)
    queue.consumer.read(1, 0)
    queue.new_consumer().read(1, 0)
    assert len(queue.redis.xinfo_consumers(queue.keys.trajectories, CONSUMER_GROUP)) == 1
