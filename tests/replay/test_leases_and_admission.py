"""Leases of ordinals, and exactly-once admission of groups, against a real Redis."""

import time

from services.redis.access import RedisAccess
from services.replay.producer import Lease
from tests.support.replay_harness import Queue


def test_nothing_is_leased_before_the_learner_has_set_the_actuators(queue: Queue) -> None:
    queue.redis.delete(queue.keys.actuators)
    assert queue.lease(4) == Lease([])
    assert queue.redis.get(queue.keys.cursor("base")) is None


def test_a_lease_carries_the_newest_actuators(queue: Queue) -> None:
    assert queue.lease(1) == Lease([0], 1.25, 0.5, actuator_step=3, entropy_target_generation=2)
    queue.publisher.set_actuators(0.1 + 0.2, 1 / 64, 4, 9)
    assert queue.lease(1) == Lease([1], 0.1 + 0.2, 1 / 64, actuator_step=4, entropy_target_generation=9)


def test_no_ordinal_at_or_above_the_limit_is_leased(queue: Queue) -> None:
    assert queue.lease(10, limit=4).ordinals == [0, 1, 2, 3]
    assert queue.lease(10, limit=4).ordinals == []
    queue.expire(3)
    assert queue.lease(10, limit=3).ordinals == []
    assert queue.lease(10, limit=5).ordinals == [3, 4]


def test_expired_leases_go_first_lowest_ordinal_first(queue: Queue) -> None:
    queue.lease(12)
    for ordinal in (10, 2, 7):
        queue.expire(ordinal)
    assert queue.lease(2, by="g1").ordinals == [2, 7]
    assert queue.lease(2, by="g1").ordinals == [10, 12]
    assert queue.stats.releases == 3


def test_a_lease_expires_by_the_clock_of_redis(queue: Queue) -> None:
    queue.lease(1, ttl=0.2)
    assert queue.lease(1, limit=1, by="g1").ordinals == []
    time.sleep(0.25)
    assert queue.lease(1, limit=1, by="g1").ordinals == [0]


def test_roles_have_cursors_of_their_own(queue: Queue) -> None:
    assert queue.lease(2, role="base").ordinals == [0, 1]
    assert queue.lease(2, role="adaptive").ordinals == [0, 1]
    assert queue.add(0, role="base") == queue.add(0, role="adaptive") == "added"


def test_only_the_owner_renews_a_lease(queue: Queue) -> None:
    queue.lease(3, ttl=0.2)
    queue.expire(1)
    queue.lease(1, by="g1", limit=3)
    queue.add(2)
    assert queue.run(queue.producer.renew("base", "g0", [0, 1, 2, 77], 3600)) == [0]
    time.sleep(0.25)
    assert queue.lease(5, limit=3).ordinals == []


def test_a_lease_given_back_is_leased_at_once(queue: Queue) -> None:
    queue.lease(2)
    queue.run(queue.producer.renew("base", "g0", [1], 0))
    assert queue.lease(5, limit=2, by="g1").ordinals == [1]


def test_a_group_enters_once_whoever_makes_it(queue: Queue) -> None:
    queue.lease(1)
    queue.expire(0)
    queue.lease(1, by="g1", limit=1)
    assert queue.add(0, data=b"first") == "added"
    assert queue.add(0, data=b"second") == "duplicate"
    queue.expire(0)
    assert queue.lease(5, limit=1).ordinals == []
    assert [entry.data for entry in queue.consumer.read(10, 0)] == [b"first"]
    assert (queue.stats.produced, queue.stats.duplicates) == (1, 1)


def test_dedupe_outlives_the_entry(queue: Queue) -> None:
    queue.fill(1)
    queue.consumer.acknowledge([entry.entry_id for entry in queue.consumer.read(1, 0)])
    assert queue.consumer.trim() == 1
    assert queue.add(0) == "duplicate"


def test_an_ordinal_that_was_never_leased_is_refused(queue: Queue) -> None:
    queue.lease(2)
    assert queue.add(2) == "unleased"
    assert queue.stats.produced == 0


def test_a_full_queue_refuses_until_a_group_is_read(small: Queue) -> None:
    small.fill(3)
    small.lease(1)
    assert small.add(3) == "full"
    small.expire(3)
    assert small.lease(1, limit=4).ordinals == [3], "a refused group must keep its lease"
    assert small.consumer.read(1, 0)
    assert small.add(3) == "added"
    assert small.add(0) == "duplicate", "a duplicate must be distinguished from a full queue"
    assert small.stats.unread == 3
    assert small.stats.refused_full == 1


def test_capacity_counts_unread_groups_exactly_after_trimming(small: Queue) -> None:
    for _ in range(3):
        small.fill(3)
        entries = small.consumer.read(2, 0) + small.consumer.read(1, 0)
        small.consumer.acknowledge([entry.entry_id for entry in entries])
        assert small.consumer.trim() == 3
    small.fill(3)
    small.lease(1)
    assert small.add(12) == "full"
    (group,) = small.redis.xinfo_groups(small.keys.trajectories)
    assert group["lag"] == small.stats.unread == 3


def test_redis_out_of_memory_is_back_pressure_and_reading_goes_on(
    redis_access: RedisAccess, run_id: str
) -> None:
    queue = Queue(redis_access, run_id)
    queue.fill(2)
    queue.lease(1)
    used = queue.redis.info("memory")["used_memory"]
    try:
        queue.redis.config_set("maxmemory", max(1, used // 2))
        assert queue.add(2) == "full"
        entries = queue.consumer.read(2, 0)
        assert queue.consumer.dead_letter(entries[0].entry_id, "spoilt")
        assert queue.consumer.acknowledge([entries[1].entry_id]) == 1
        assert queue.consumer.trim() == 2
    finally:
        queue.redis.config_set("maxmemory", 0)
    assert queue.add(2) == "added"
    queue.close()
