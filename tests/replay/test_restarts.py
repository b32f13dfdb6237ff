"""Restarts of the learner: which entries it rereads, which entries count a delivery, and what fencing refuses."""

from collections.abc import Iterator

import pytest

from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.replay.consumer import ReplayConsumer
from services.replay.entries import Entry
from services.replay.stream_reader import ENTRIES_PER_ROUND_TRIP
from tests.support.replay_harness import Queue, group_bytes


@pytest.fixture
def queue(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    queue = Queue(redis_access, run_id)
    yield queue
    queue.close()


def group_ids(entries: list[Entry]) -> list[str]:
    return [entry.group_id for entry in entries]


def test_a_new_incarnation_gets_pending_entries_in_order_but_for_the_applied_ones(queue: Queue) -> None:
    queue.fill(ENTRIES_PER_ROUND_TRIP + 4)
    read = queue.consumer.read(ENTRIES_PER_ROUND_TRIP + 3, 0)
    queue.consumer.acknowledge([read[0].entry_id])
    again = queue.new_consumer()
    pending = list(again.pending(applied={read[1].entry_id}))
    assert group_ids(pending) == group_ids(read[2:])
    assert [entry.data for entry in pending] == [entry.data for entry in read[2:]]
    assert group_ids(again.read(100, 0)) == [f"base:{ENTRIES_PER_ROUND_TRIP + 3}:0"]


def test_ten_restarts_give_up_no_group_that_the_learner_gets_through_in_between(queue: Queue) -> None:
    """Each learner dies one step later or at the same step, and repeats every earlier step."""
    queue.fill(12)
    steps = [[entry.entry_id for entry in queue.consumer.read(2, 0)] for _ in range(6)]
    queue.consumer.reading_done()
    for death in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4):
        for step in steps[: death + 1]:
            queue.consumer.mark_learning(step)
        queue.consumer = queue.new_consumer()
        pending = list(queue.consumer.pending())
        assert [entry.entry_id for entry in pending] == [i for step in steps for i in step]
        assert all(entry.deliveries == 1 for entry in pending if entry.entry_id not in steps[death])
    assert queue.admin.dead_letters() == []


def test_restarts_count_nothing_against_entries_that_only_wait(queue: Queue) -> None:
    queue.fill(40)
    queue.consumer.read(40, 0)
    queue.consumer.read(1, 0)
    for _ in range(10):
        queue.consumer = queue.new_consumer()
        assert [entry.deliveries for entry in queue.consumer.pending()] == [1] * 40
    assert queue.admin.dead_letters() == []


def test_the_groups_of_a_step_that_kills_the_learner_each_time_are_dead_lettered(queue: Queue) -> None:
    queue.fill(6)
    ids = [entry.entry_id for entry in queue.consumer.read(6, 0)]
    queue.consumer.reading_done()
    for death in range(1, 4):
        queue.consumer.mark_learning(ids[:2])
        queue.consumer.mark_learning(ids[2:4])
        queue.consumer = queue.new_consumer()
        left = [entry.entry_id for entry in queue.consumer.pending()]
        assert left == (ids if death < 3 else [*ids[:2], *ids[4:]])
    assert {letter.group_id for letter in queue.admin.dead_letters()} == {"base:2:0", "base:3:0"}


def test_an_entry_that_kills_its_reader_each_time_stands_alone_after_the_first(queue: Queue) -> None:
    """Entries read with it are redelivered one by one, so that at the next death only this entry is being read."""
    queue.fill(40)
    poison = queue.consumer.read(40, 0)[7].entry_id
    for _ in range(2):
        queue.consumer = queue.new_consumer()
        assert any(entry.entry_id == poison for entry in queue.consumer.pending()), (
            "the poison entry was not delivered"
        )
    queue.consumer = queue.new_consumer()
    survivors = list(queue.consumer.pending())
    assert len(survivors) == 39
    assert {entry.deliveries for entry in survivors} == {2}
    (letter,) = queue.admin.dead_letters()
    assert letter.reason == "the learner died 3 times in a row while it worked on it"
    assert (letter.group_id, letter.size) == ("base:7:0", len(group_bytes("base", 7)))
    queue.consumer.mark_learning([entry.entry_id for entry in survivors])
    queue.consumer.mark_learning(())
    assert {entry.deliveries for entry in queue.new_consumer().pending()} == {1}


def test_an_older_incarnation_can_write_nothing(queue: Queue) -> None:
    queue.fill(3)
    entry_id = queue.consumer.read(1, 0)[0].entry_id
    queue.consumer.check()
    newer = queue.new_consumer()
    keys = set(queue.redis.keys(queue.keys.trajectories[:-12] + "*")) - {queue.keys.trajectories.encode()}
    before = {key: queue.redis.dump(key) for key in keys}
    for write in (
        queue.consumer.check,
        lambda: queue.consumer.read(1, 1000),
        lambda: list(queue.consumer.pending()),
        lambda: queue.consumer.mark_learning([entry_id]),
        queue.consumer.reading_done,
        lambda: queue.consumer.acknowledge([entry_id]),
        lambda: queue.consumer.dead_letter(entry_id, "no"),
        queue.consumer.trim,
        lambda: queue.publisher.publish_version(1, 2),
        lambda: queue.publisher.set_actuators(1, 1, 1, 1),
    ):
        with pytest.raises(
            FencedError, match=f"epoch {queue.consumer.epoch} may not write: epoch {newer.epoch}"
        ):
            write()
    assert {key: queue.redis.dump(key) for key in before} == before
    # The newer incarnation also gets the entries that the older one had taken.
    entries = [*newer.pending(), *newer.read(5, 0)]
    assert group_ids(entries) == ["base:0:0", "base:1:0", "base:2:0"]
    assert {entry.deliveries for entry in entries[1:]} == {1}


def test_a_consumer_that_was_not_opened_can_write_nothing(redis_access: RedisAccess, run_id: str) -> None:
    consumer = ReplayConsumer(redis_access.sync(), run_id, max_deliveries=1)
    with pytest.raises(RuntimeError, match="not opened"):
        consumer.read(1, 0)


def test_publication_is_visible_to_generators(queue: Queue) -> None:
    queue.publisher.publish_version(2, 17)
    assert queue.redis.hgetall(queue.keys.published) == {b"lineage": b"2", b"step": b"17"}
