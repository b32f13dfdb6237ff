"""Filling learner steps from a real queue: order, waiting, refused groups with their reasons, restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from services.learner.collector import Collector, StepGroups
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.replay.consumer import ReplayConsumer
from services.replay.entries import Entry
from tests.support.replay_harness import Queue, always, make_group
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, VersionSpan, encode_group

PROMPTS, STALENESS = 3, 1


def configuration(**changes: Any) -> RunConfig:
    tree = {
        "rollout": {"prompts_per_step": PROMPTS, "base_samples": 2, "adaptive_samples": 2},
        "pipeline": {"max_staleness": STALENESS, "batch_timeout_seconds": 20},
    }
    return RunConfig.model_validate(
        {name: tree.get(name, {}) | changes.get(name, {}) for name in tree | changes}
    )


class Bench:
    """A queue, writes to it as generators make them, and a collector for each learner incarnation."""

    def __init__(self, access: RedisAccess, run_id: str) -> None:
        self.queue, self.run_id = Queue(access, run_id), run_id
        self._collectors: list[Collector] = []
        for role in ("base", "adaptive"):
            self.queue.lease(100, role=role)

    def collector(
        self,
        first_step: int = 0,
        applied: list[tuple[str, str]] | None = None,
        config: RunConfig | None = None,
        consumer: ReplayConsumer | None = None,
    ) -> Collector:
        """A started collector."""
        consumer = consumer or self.queue.consumer
        collector = Collector(consumer, config or configuration(), self.run_id, first_step)
        collector.start(applied or [])
        self._collectors.append(collector)
        return collector

    def group(self, role: Role, ordinal: int, *, step: int | None = None, **changes: Any) -> Group:
        """A usable group; `step` is the policy version that sampled it, by default that of its learner step."""
        group = make_group(role, ordinal, changes.pop("attempt", 0))
        spans = [VersionSpan(0, 1, ordinal // PROMPTS if step is None else step)]
        rollouts = [msgspec.structs.replace(t, versions=spans) for t in group.trajectories]
        return msgspec.structs.replace(group, **({"run_id": self.run_id, "trajectories": rollouts} | changes))

    def put(self, group: Group, ordinal: int | None = None) -> None:
        data = encode_group(group, size_cap=1 << 20)
        place = group.ordinal if ordinal is None else ordinal
        assert self.queue.add(place, role=group.role, attempt=group.attempt, data=data) == "added"

    def put_step(self, step: int, *, without: tuple[tuple[Role, int], ...] = ()) -> None:
        """Both roles of a step, last ordinal first."""
        for role in ("base", "adaptive"):
            for ordinal in reversed(range(step * PROMPTS, (step + 1) * PROMPTS)):
                if (role, ordinal) not in without:
                    self.put(self.group(role, ordinal))

    def dead_letters(self) -> dict[str, str]:
        """group id → reason"""
        entries: Any = self.queue.redis.xrange(self.queue.keys.dead_letters)
        return {fields[b"group"].decode(): fields[b"reason"].decode() for _, fields in entries}

    def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not what():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.01)

    def close(self) -> None:
        for collector in self._collectors:
            collector.close()
        self.queue.close()


@pytest.fixture
def bench(redis_access: RedisAccess, run_id: str) -> Iterator[Bench]:
    bench = Bench(redis_access, run_id)
    yield bench
    bench.close()


def places(taken: StepGroups | None) -> set[tuple[str, int]]:
    assert taken is not None
    assert {(g.role, g.ordinal) for _, g in taken.groups.values()} == taken.groups.keys()
    return set(taken.groups)


def step_places(*steps: int) -> set[tuple[str, int]]:
    return {
        (r, o) for s in steps for r in ("base", "adaptive") for o in range(s * PROMPTS, (s + 1) * PROMPTS)
    }


def test_steps_are_filled_by_ordinal_whatever_the_order_of_arrival(bench: Bench) -> None:
    collector = bench.collector()
    bench.put_step(1)
    bench.put_step(0)
    for step in (0, 1):
        taken = collector.take(step, always)
        assert places(taken) == step_places(step)
        assert taken is not None
        assert not taken.missing
        assert {group_id for _, group_id in taken.consumed()} == {f"{r}:{o}:0" for r, o in step_places(step)}


def test_a_straggler_is_waited_for_and_not_overtaken(bench: Bench) -> None:
    collector = bench.collector()
    bench.put_step(0, without=(("adaptive", 1),))
    bench.put_step(1)
    asked: list[float] = []
    late = threading.Timer(1.2, lambda: bench.put(bench.group("adaptive", 1)))
    late.start()
    assert places(collector.take(0, lambda: asked.append(0) is None)) == step_places(0)
    late.join()
    assert len(asked) >= 2, "keep_waiting is called about twice a second"
    assert places(collector.take(1, always)) == step_places(1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda bench, group: b"\x93not msgpack", "undecodable: not a group"),
        (
            lambda bench, group: msgspec.structs.replace(group, schema_version=99),
            "undecodable: schema version 99",
        ),
        (lambda bench, group: msgspec.structs.replace(group, run_id="elsewhere"), "of run elsewhere"),
        (lambda bench, group: msgspec.structs.replace(group, ordinal=2), "holds group base:2:0"),
        (
            lambda bench, group: msgspec.structs.replace(group, trajectories=group.trajectories[:1]),
            "1 base rollouts, the configuration asks for 2",
        ),
        (lambda bench, group: bench.group("base", 1, step=2), "stale: 2 learner steps old"),
    ],
)
def test_what_cannot_be_used_is_dead_lettered_with_its_reason_and_not_waited_for(
    bench: Bench, spoil: Callable[[Bench, Group], Group | bytes], reason: str
) -> None:
    collector = bench.collector()
    bench.put_step(0, without=(("base", 1),))
    spoilt = spoil(bench, bench.group("base", 1))
    data = spoilt if isinstance(spoilt, bytes) else msgspec.msgpack.encode(spoilt)
    assert bench.queue.add(1, data=data) == "added"
    taken = collector.take(0, always)
    assert places(taken) == step_places(0) - {("base", 1)}
    assert taken is not None
    assert taken.missing == {("base", 1)}
    assert reason in bench.dead_letters()["base:1:0"]
    assert bench.queue.stats.dead_lettered == 1


def test_an_entry_above_the_size_cap_is_dead_lettered(bench: Bench) -> None:
    collector = bench.collector(config=configuration(pipeline={"max_staleness": 1, "entry_bytes": 1024}))
    bench.put_step(0, without=(("base", 0),))
    big = bench.group("base", 0)
    long = make_group(tokens=900).trajectories
    bench.put(msgspec.structs.replace(big, trajectories=long))
    taken = collector.take(0, always)
    assert taken is not None
    assert taken.missing == {("base", 0)}
    assert "above the cap" in bench.dead_letters()["base:0:0"]


@pytest.mark.parametrize(("version", "used"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_staleness_counts_steps_in_either_direction(bench: Bench, version: int, used: bool) -> None:
    collector = bench.collector(first_step=2)
    bench.put_step(2, without=(("base", 6),))
    bench.put(bench.group("base", 6, step=version))
    taken = collector.take(2, always)
    assert (("base", 6) in places(taken)) == used
    assert ("base:6:0" in bench.dead_letters()) != used


def test_the_oldest_token_of_the_oldest_rollout_decides_the_staleness(bench: Bench) -> None:
    collector = bench.collector(first_step=2)
    bench.put_step(2, without=(("base", 6),))
    group = bench.group("base", 6)
    spanning = msgspec.structs.replace(
        group.trajectories[1], versions=[VersionSpan(0, 1, 0), VersionSpan(4, 1, 2)]
    )
    bench.put(msgspec.structs.replace(group, trajectories=[group.trajectories[0], spanning]))
    taken = collector.take(2, always)
    assert taken is not None
    assert taken.missing == {("base", 6)}


def test_a_group_of_a_step_that_is_done_is_dead_lettered_as_late(bench: Bench) -> None:
    collector = bench.collector(first_step=1)
    bench.put(bench.group("base", 0))
    bench.put_step(1)
    assert places(collector.take(1, always)) == step_places(1)
    bench.until(lambda: bench.dead_letters() == {"base:0:0": "late: learner step 0 is done"})


def test_a_requeued_group_that_loses_the_race_against_its_step_is_dead_lettered(bench: Bench) -> None:
    """The group is found usable, but its step is taken without it before the group is placed."""
    collector = Collector(bench.queue.consumer, configuration(), bench.run_id, 0)
    bench.put(bench.group("base", 0))
    (entry,) = bench.queue.consumer.read(1, 100)
    validate = collector._validator.validate

    def slow(entry: Entry, step: int, next_step: int) -> Group | str:
        validated = validate(entry, step, next_step)
        collector._next_step = step + 1
        return validated

    collector._validator.validate = slow
    collector._place(entry)
    assert bench.dead_letters() == {"base:0:0": "late: learner step 0 is done"}


def test_groups_of_a_role_that_the_run_does_not_use_do_not_fill_a_step(bench: Bench) -> None:
    """A run resumed without entropy control finds adaptive groups in its queue."""
    control = {"kind": "none"}
    bench.put_step(0, without=(("base", 2),))
    collector = bench.collector(config=configuration(entropy_control=control))
    bench.until(lambda: len(bench.dead_letters()) == PROMPTS)
    assert collector.take(0, lambda: False) is None, "an adaptive group took the place of a base group"
    bench.put(bench.group("base", 2))
    assert places(collector.take(0, always)) == {("base", 0), ("base", 1), ("base", 2)}


def test_after_a_restart_pending_groups_come_back_in_order_and_applied_ones_do_not(bench: Bench) -> None:
    first = bench.collector()
    for step in (0, 1, 2):
        bench.put_step(step)
    applied = first.take(0, always)
    assert applied is not None
    first.take(1, always)
    first.close()

    placed: list[str] = []
    consumer = bench.queue.new_consumer()
    second = Collector(consumer, configuration(), bench.run_id, 1)
    place = second._place
    second._place = lambda entry: (placed.append(entry.entry_id), place(entry))[1]
    second.start(applied.consumed())
    assert places(second.take(1, always)) == step_places(1)
    assert places(second.take(2, always)) == step_places(2)
    second.close()
    assert placed == sorted(placed, key=lambda i: tuple(map(int, i.split("-"))))
    assert not {i for i, _ in applied.consumed()} & set(placed)
    assert not bench.dead_letters()


def test_what_an_earlier_incarnation_dead_lettered_is_not_waited_for(bench: Bench) -> None:
    first = bench.collector()
    bench.put_step(0, without=(("base", 1),))
    assert bench.queue.add(1, data=b"broken") == "added"
    bench.until(lambda: bool(bench.dead_letters()))
    first.close()
    taken = bench.collector(consumer=bench.queue.new_consumer()).take(0, always)
    assert taken is not None
    assert taken.missing == {("base", 1)}


def test_a_step_that_does_not_fill_in_time_names_what_it_had_and_what_to_look_at(bench: Bench) -> None:
    timeout = {"max_staleness": 1, "batch_timeout_seconds": 1.0}
    collector = bench.collector(config=configuration(pipeline=timeout))
    bench.put_step(0, without=(("adaptive", 0), ("adaptive", 2)))
    with pytest.raises(ScopeError) as caught:
        collector.take(0, always)
    message = str(caught.value)
    assert "learner step 0 had {'base': 3, 'adaptive': 1} of 3 groups a role" in message
    assert "pipeline.batch_timeout_seconds=1" in message


def test_waiting_ends_when_the_caller_no_longer_wants_to(bench: Bench) -> None:
    collector = bench.collector()
    answers = iter([True, False])
    assert collector.take(0, lambda: next(answers)) is None
    bench.put_step(0)
    assert places(collector.take(0, always)) == step_places(0)


def test_a_fenced_reader_raises_in_the_learner(bench: Bench) -> None:
    collector = bench.collector()
    bench.queue.new_consumer()
    with pytest.raises(FencedError):
        collector.take(0, always)
