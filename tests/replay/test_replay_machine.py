"""The replay protocol against a model: any order of calls, crashes, lost replies and late writers."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.redis.keys import CONSUMER_GROUP
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.replay.entries import Entry
from services.replay.producer import AddOutcome
from tests.support.replay_harness import Queue, group_bytes
from trainer.roles import Role

CAPACITY, MAX_DELIVERIES = 4, 3
ZOMBIE_CALLS = ("read", "mark learning", "reading done", "acknowledge", "dead_letter", "trim", "publish")
ROLES: tuple[Role, ...] = ("base", "adaptive")
roles = st.sampled_from(ROLES)
producers = st.sampled_from(("g0", "g1"))
picks = st.integers(0, 10**6)


@dataclass
class RoleModel:
    """The expected data cursor and leases of one role."""

    cursor: int = 0
    leases: dict[int, str] = field(default_factory=dict)
    """ordinal → owner"""
    expired: set[int] = field(default_factory=set)


@dataclass
class Model:
    """The expected contents of the queue. Groups are named by their ids."""

    roles: dict[str, RoleModel] = field(default_factory=lambda: {role: RoleModel() for role in ROLES})
    entered: list[str] = field(default_factory=list)
    """every group that ever entered the stream, in order"""
    unread: list[str] = field(default_factory=list)
    pending: dict[str, int] = field(default_factory=dict)
    """group id → deliveries, in order"""
    reading: set[str] = field(default_factory=set)
    learning: set[str] = field(default_factory=set)
    """the learner's work: entries of its newest read, and of the step that it computes"""
    acknowledged: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    """purged or requeued dead letters"""
    trimmed: int = 0
    duplicates: int = 0
    refused: int = 0
    releases: int = 0


def parts(group_id: str) -> tuple[Role, int, int]:
    role, ordinal, attempt = group_id.split(":")
    return "base" if role == "base" else "adaptive", int(ordinal), int(attempt)


def size(group_id: str) -> int:
    return len(group_bytes(*parts(group_id)))


class ReplayMachine(RuleBasedStateMachine):
    """Drives the real queue and the model in lockstep; every reply and every counter must agree."""

    access: RedisAccess

    def __init__(self) -> None:
        super().__init__()
        run_id = f"machine-{uuid.uuid4().hex[:12]}"
        self.queue = Queue(self.access, run_id, capacity=CAPACITY, max_deliveries=MAX_DELIVERIES)
        self.model = Model()
        self.entry_ids: dict[str, str] = {}
        self.zombies: list[ReplayConsumer] = []

    def teardown(self) -> None:
        self.queue.close()

    # --- generators

    @rule(role=roles, by=producers, limit=st.integers(0, 30), count=st.integers(1, 4))
    def lease(self, role: Role, by: str, limit: int, count: int) -> None:
        side = self.model.roles[role]
        taken_over = sorted(ordinal for ordinal in side.expired if ordinal < limit)[:count]
        new = list(range(side.cursor, max(side.cursor, min(limit, side.cursor + count - len(taken_over)))))
        assert self.queue.lease(count, limit=limit, role=role, by=by).ordinals == taken_over + new
        side.cursor += len(new)
        side.expired -= set(taken_over)
        side.leases |= dict.fromkeys(taken_over + new, by)
        self.model.releases += len(taken_over)

    @precondition(lambda self: any(side.leases for side in self.model.roles.values()))
    @rule(role=roles, order=st.permutations(range(8)))
    def leases_expire(self, role: Role, order: list[int]) -> None:
        side = self.model.roles[role]
        for at, place in enumerate(order[:4]):
            if place < len(side.leases):
                ordinal = list(side.leases)[place]
                self.queue.expire(ordinal, role, at)
                side.expired.add(ordinal)

    @rule(
        role=roles, by=producers, ordinals=st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True)
    )
    def renew(self, role: Role, by: str, ordinals: list[int]) -> None:
        side = self.model.roles[role]
        owned = [ordinal for ordinal in ordinals if side.leases.get(ordinal) == by]
        assert self.queue.run(self.queue.producer.renew(role, by, ordinals, 3600)) == owned
        side.expired -= set(owned)

    @rule(role=roles, ordinal=st.integers(0, 20), lowest_leased=st.booleans())
    def add(self, role: Role, ordinal: int, lowest_leased: bool) -> None:
        side = self.model.roles[role]
        if lowest_leased and side.leases:
            ordinal = min(side.leases)
        expected = self.outcome_of_adding(role, ordinal)
        assert self.queue.add(ordinal, role=role) == expected

    def outcome_of_adding(self, role: Role, ordinal: int) -> AddOutcome:
        side = self.model.roles[role]
        group_id = f"{role}:{ordinal}:0"
        if ordinal >= side.cursor:
            return "unleased"
        if group_id in self.model.entered:
            self.model.duplicates += 1
            return "duplicate"
        if len(self.model.unread) >= CAPACITY:
            self.model.refused += 1
            return "full"
        self.enter(group_id)
        side.leases.pop(ordinal)
        side.expired.discard(ordinal)
        return "added"

    @rule(role=roles, by=producers, count=st.integers(1, CAPACITY + 1), others=st.lists(st.integers(0, 20)))
    def generator_works(self, role: Role, by: str, count: int, others: list[int]) -> None:
        """others: more ordinals added in the same round trip: leased, already present, repeated or never leased."""
        self.lease(role, by, 1000, count)
        ordinals = [o for o, owner in self.model.roles[role].leases.items() if owner == by] + others
        expected = [self.outcome_of_adding(role, ordinal) for ordinal in ordinals]
        assert self.queue.add_together(ordinals, role=role) == expected

    @precondition(lambda self: self.model.entered)
    @rule(pick=picks)
    def add_again(self, pick: int) -> None:
        role, ordinal, attempt = parts(self.model.entered[pick % len(self.model.entered)])
        assert self.queue.add(ordinal, role=role, attempt=attempt) == "duplicate"
        self.model.duplicates += 1

    def enter(self, group_id: str) -> None:
        self.model.entered.append(group_id)
        self.model.unread.append(group_id)

    # --- learner

    @rule(count=st.integers(1, 6), lost=st.none() | st.integers(0, 2))
    def read(self, count: int, lost: int | None) -> None:
        """lost: which reply of the read is lost."""
        expected = self.model.unread[:count]
        self.queue.redis.replies_before_loss = lost
        try:
            entries = self.queue.consumer.read(count, 0)
            assert [entry.group_id for entry in entries] == expected
        except RedisConnectionError:
            entries = self.queue.consumer.read(count, 0)
            # The repeated call first returns the lost entries, then new ones up to its count.
            assert [entry.group_id for entry in entries] == self.model.unread[: len(entries)]
            assert len(entries) >= min(len(expected), 1)
        self.queue.redis.replies_before_loss = None
        self.receive(entries, first=True)
        del self.model.unread[: len(entries)]
        self.model.reading = {entry.group_id for entry in entries}

    def receive(self, entries: list[Entry], *, first: bool) -> None:
        for entry in entries:
            assert entry.data == group_bytes(*parts(entry.group_id))
            assert entry.deliveries == (1 if first else self.model.pending[entry.group_id])
            self.entry_ids[entry.group_id] = entry.entry_id
            self.model.pending[entry.group_id] = entry.deliveries

    @rule(skip=st.sets(st.integers(0, 8)), gets=st.integers(0, 6))
    def learner_restarts(self, skip: set[int], gets: int) -> None:
        """The learner reads `gets` of the redelivered entries; it still reads the last ones it got."""
        model = self.model
        self.zombies.append(self.queue.consumer)
        self.queue.consumer = self.queue.new_consumer()
        for group_id in model.pending:
            model.pending[group_id] += group_id in model.reading | model.learning
        model.reading, model.learning = set(), set()
        applied = {g for i, g in enumerate(model.pending) if i in skip}
        left = [g for g in model.pending if g not in applied]
        entries = self.queue.consumer.pending({self.entry_ids[g] for g in applied})
        while gets > 0 and left:
            page = self.next_page(left)
            got = list(islice(entries, min(gets, max(len(page), 1))))
            assert [entry.group_id for entry in got] == page[: len(got)]
            self.receive(got, first=False)
            model.reading, gets = set(page), gets - len(page)

    def next_page(self, left: list[str]) -> list[str]:
        """Remove the next page of redelivery from `left`: a suspect alone, other entries up to the next suspect."""
        page: list[str] = []
        while left:
            deliveries = self.model.pending[left[0]]
            if deliveries > MAX_DELIVERIES:
                self.bury(left.pop(0))
            elif deliveries == 1 or not page:
                page.append(left.pop(0))
                if deliveries > 1:
                    break
            else:
                break
        return page

    def bury(self, group_id: str) -> None:
        del self.model.pending[group_id]
        self.model.dead.append(group_id)

    @precondition(lambda self: self.model.pending)
    @rule(chosen=st.sets(st.integers(0, 8)))
    def mark_learning(self, chosen: set[int]) -> None:
        """A step begins, with these groups or none; the previous step is done."""
        for group_id in self.model.learning & self.model.pending.keys():
            self.model.pending[group_id] = 1
        self.model.learning = {g for i, g in enumerate(self.model.pending) if i in chosen}
        self.queue.consumer.mark_learning([self.entry_ids[g] for g in self.model.learning])

    @rule()
    def reading_done(self) -> None:
        self.queue.consumer.reading_done()
        self.model.reading = set()

    @rule(chosen=st.sets(st.integers(0, 8), min_size=1), lose_reply=st.booleans())
    def acknowledge(self, chosen: set[int], lose_reply: bool) -> None:
        known = [*self.model.pending, *self.model.acknowledged[-2:], *self.model.dead[-2:]]
        groups = [g for i, g in enumerate(known) if i in chosen]
        ids = [self.entry_ids[g] for g in groups]
        pending = [g for g in groups if g in self.model.pending]
        if lose_reply and ids:
            self.queue.redis.replies_before_loss = 0
            with pytest.raises(RedisConnectionError):
                self.queue.consumer.acknowledge(ids)
            # Entries of unknown size, from before a restart, need a separate call, which was not made.
            assert self.queue.consumer.acknowledge(ids) < max(len(pending), 1)
        else:
            assert self.queue.consumer.acknowledge(ids) == len(pending)
        for group_id in pending:
            del self.model.pending[group_id]
            self.model.acknowledged.append(group_id)

    @precondition(lambda self: self.model.pending)
    @rule(pick=picks)
    def dead_letter(self, pick: int) -> None:
        group_id = list(self.model.pending)[pick % len(self.model.pending)]
        assert self.queue.consumer.dead_letter(self.entry_ids[group_id], "too old")
        assert not self.queue.consumer.dead_letter(self.entry_ids[group_id], "too old")
        self.bury(group_id)

    @rule()
    def trim(self) -> None:
        left = len(self.model.entered) - self.model.trimmed
        waiting = [*self.model.pending, *self.model.unread]
        kept = len(self.model.entered) - self.model.entered.index(waiting[0]) if waiting else 0
        assert self.queue.consumer.trim() == left - kept
        self.model.trimmed += left - kept

    @precondition(lambda self: self.zombies)
    @rule(pick=picks, call=st.sampled_from(ZOMBIE_CALLS))
    def frozen_learner_thaws(self, pick: int, call: str) -> None:
        zombie = self.zombies[pick % len(self.zombies)]
        publisher = ActuatorPublisher(self.queue.redis, self.queue.run_id, zombie.epoch)
        ids = list(self.entry_ids.values())[-3:] or ["1-1"]
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: zombie.read(2, 0),
            "mark learning": lambda: zombie.mark_learning(ids),
            "reading done": zombie.reading_done,
            "acknowledge": lambda: zombie.acknowledge(ids),
            "dead_letter": lambda: zombie.dead_letter(ids[0], "zombie"),
            "trim": zombie.trim,
            "publish": lambda: publisher.publish_version(0, 0),
        }
        with pytest.raises(FencedError):
            calls[call]()

    # --- administration

    @precondition(lambda self: self.model.dead and len(self.model.unread) < CAPACITY)
    @rule(pick=picks)
    def requeue(self, pick: int) -> None:
        letters = self.queue.admin.dead_letters()
        letter = letters[pick % len(letters)]
        role, ordinal, attempt = parts(letter.group_id)
        outcome = self.queue.admin.requeue(letter.letter_id)
        assert outcome.became == f"{role}:{ordinal}:{attempt + 1}"
        assert self.queue.admin.requeue(letter.letter_id) == outcome
        self.enter(f"{role}:{ordinal}:{attempt + 1}")
        self.resolve(letter.group_id)

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks)
    def purge(self, pick: int) -> None:
        letters = self.queue.admin.dead_letters()
        letter = letters[pick % len(letters)]
        (outcome,) = self.queue.admin.purge([letter.letter_id], "useless")
        assert self.queue.admin.purge([letter.letter_id], "useless") == [outcome]
        self.resolve(letter.group_id)

    def resolve(self, group_id: str) -> None:
        self.model.dead.remove(group_id)
        self.model.resolved.append(group_id)

    # --- invariants

    @invariant()
    def every_group_is_in_exactly_one_place(self) -> None:
        model = self.model
        places = [*model.unread, *model.pending, *model.acknowledged, *model.dead, *model.resolved]
        assert sorted(places) == sorted(model.entered)
        letters = self.queue.admin.dead_letters(10_000)
        assert sorted(letter.group_id for letter in letters) == sorted(model.dead)

    @invariant()
    def counters_agree_with_the_model_and_with_redis(self) -> None:
        model, stats = self.model, self.queue.stats
        assert (stats.produced, stats.unread, stats.pending) == (
            len(model.entered),
            len(model.unread),
            len(model.pending),
        )
        assert (stats.duplicates, stats.refused_full, stats.releases) == (
            model.duplicates,
            model.refused,
            model.releases,
        )
        assert stats.acknowledged == len(model.acknowledged)
        assert stats.dead_letters == len(model.dead)
        assert stats.requeued + stats.purged == len(model.resolved)
        assert stats.unacknowledged_bytes == sum(map(size, model.pending))
        queued_bytes = stats.produced_bytes - stats.released_bytes
        assert queued_bytes == sum(map(size, [*model.pending, *model.unread]))
        redis, keys = self.queue.redis, self.queue.keys
        assert redis.xlen(keys.trajectories) == len(model.entered) - model.trimmed
        last_read = cast("bytes", redis.hget(keys.counters, "last_read") or b"0-0")
        read = redis.xpending_range(keys.trajectories, CONSUMER_GROUP, "-", last_read, 100)
        assert [item["times_delivered"] for item in read] == list(model.pending.values())
        # Entries taken by a fenced incarnation, or by a read whose reply was lost, are not recorded as read.
        astray = redis.xpending_range(keys.trajectories, CONSUMER_GROUP, b"(" + last_read, "+", 100)
        assert all(item["times_delivered"] == 1 for item in astray)
        (group,) = redis.xinfo_groups(keys.trajectories)
        assert group["lag"] + len(astray) == len(model.unread)


@pytest.fixture
def machine(redis_access: RedisAccess) -> type[ReplayMachine]:
    class Bound(ReplayMachine):
        access = redis_access

    return Bound


def test_the_queue_behaves_as_its_model(machine: type[ReplayMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
