"""Checkpoints: atomic, verified by checksums, and the rule for acknowledging the queue."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.entropy_target.store import read_applied, read_entropy_target
from services.learner.rank_zero import RankZero
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.redis.keys import RunKeys
from tests.support.runs.checkpoints import state, write
from tests.support.runs.incarnations import STEP_GROUPS, Crash, Incarnations, measured
from trainer.checkpoint.store import Best, CheckpointStore, read_state, verifies
from trainer.config import EntropyControlConfig, ScheduleConfig
from trainer.errors import ScopeError


class CrashAt:
    """Raises Crash at the n-th file operation of a commit; counts all operations."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.count, self._at = 0, at
        for module, name in ((os, "fsync"), (os, "rename"), (shutil, "rmtree"), (Path, "write_bytes")):
            patch.setattr(module, name, self._wrapped(getattr(module, name)))

    def _wrapped(self, operation: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.count == self._at:
                raise Crash
            return operation(*arguments, **options)

        return wrapper


def test_a_commit_is_what_was_written_and_is_read_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    assert store.newest() is None
    path = write(store, 20)
    assert store.newest() == path
    assert verifies(path)
    assert read_state(path) == state(20)
    assert (path / "engine" / "rank-1.pt").read_bytes() == bytes([21]) * 1000


def test_a_crash_at_any_file_operation_leaves_a_whole_newest_checkpoint(tmp_path: Path) -> None:
    at, survivors = 0, []
    while True:
        at += 1
        folder = tmp_path / str(at)
        store = CheckpointStore(folder, keep=2)
        for step in (10, 20):
            write(store, step)
        with pytest.MonkeyPatch.context() as patch:
            crash = CrashAt(patch, at)
            with contextlib.suppress(Crash):
                write(store, 30)
        crashed = crash.count == at
        after = CheckpointStore(folder, keep=2)
        newest = after.newest()
        assert newest is not None
        assert read_state(newest).step in ((20, 30) if crashed else (30,))
        survivors.append(read_state(newest).step)
        # The next incarnation repeats the step and commits over whatever the crash left.
        assert read_state(write(after, 30)).step == 30
        assert after.newest() == folder / "step-00000030"
        if not crashed:
            break
    assert crash.count == at - 1 > 8
    assert survivors[0] == 20
    assert survivors == sorted(survivors)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_seen_and_the_one_before_is_used(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = CheckpointStore(tmp_path_factory.mktemp("checkpoints"), keep=3)
    before, newest = write(store, 1), write(store, 2)
    files = sorted(p for p in newest.rglob("*") if p.is_file())
    victim = data.draw(st.sampled_from(files))
    content = victim.read_bytes()
    match data.draw(st.sampled_from(["flip", "truncate", "delete"])):
        case "flip":
            position = data.draw(st.integers(0, len(content) - 1))
            victim.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        case "truncate":
            victim.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        case _:
            victim.unlink()
    assert store.newest() == before


def test_when_every_checkpoint_is_damaged_none_is_made_up(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    for step in (1, 2):
        (write(store, step) / "state.json").write_text("{}")
    with pytest.raises(ScopeError, match="None of the 2 checkpoints"):
        store.newest()


def test_the_newest_keep_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 9, 10, 100):
        write(store, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_after_a_fall_back_the_damaged_checkpoint_does_not_crowd_out_good_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (40, 60):
        write(store, step)
    (tmp_path / "step-00000060" / "state.json").write_text("{}")
    write(store, 50)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000040", "step-00000050"]


def test_the_best_is_kept_besides_the_newest_and_survives_a_restart(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2):
        write(store, step)
    assert store.offer(Best(1, 4, 0.3))
    assert not store.offer(Best(2, 4, 0.3)), "a new best must be better"
    assert not store.offer(Best(9, 4, 0.9)), "a best must exist"
    for step in (3, 4):
        write(store, step)
    after = CheckpointStore(tmp_path, keep=2)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 1, "k": 4, "pass_at_k": 0.3}
    write(after, 5)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{s:08d}" for s in (1, 4, 5)]
    assert after.offer(Best(4, 4, 0.4))
    for step in (6, 7):
        write(after, step)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{s:08d}" for s in (4, 6, 7)]
    assert after.offer(Best(7, 1, 0.1)), "a best for another k replaces it"


def test_an_old_checkpoint_that_is_kept_as_the_best_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    """Groups that later checkpoints acknowledged cannot be learned again."""
    store = CheckpointStore(tmp_path, keep=2)
    write(store, 1)
    store.offer(Best(1, 1, 0.3))
    for step in (2, 3, 4):
        (write(store, step) / "state.json").write_text("{}")
    assert verifies(tmp_path / "step-00000001")
    with pytest.raises(ScopeError, match="None of the 2 checkpoints"):
        store.newest()


@pytest.mark.parametrize("step", [50, 60])
def test_a_best_that_was_taken_back_is_the_best_no_more(tmp_path: Path, step: int) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for done in (40, 60):
        write(store, done)
    store.offer(Best(60, 1, 0.9))
    (tmp_path / "step-00000060" / "state.json").write_text("{}")
    write(store, step)
    assert store.best is None


def test_a_fenced_learner_commits_nothing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    first = write(store, 1)

    def fenced() -> None:
        raise FencedError(1, 2)

    store.writing(2, 1)
    with pytest.raises(FencedError):
        store.commit(state(2), fenced)
    assert store.newest() == first
    assert not (tmp_path / "step-00000002").exists()


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def listed(checkpoint: Path) -> set[str]:
    return {entry_id for entry_id, _ in read_state(checkpoint).consumed}


def test_the_regularizers_strength_travels_with_each_order_and_survives_a_restart(
    incarnations: Incarnations,
) -> None:
    rank_zero = incarnations.begin()
    ordered = []
    for step, entropy in enumerate((0.1, 0.2, 0.9, 0.3)):  # the entropy target is 0.4
        order, _ = rank_zero.next_order(step)
        ordered.append(order.strength)
        rank_zero.learned(measured(entropy), 1.0)
    assert ordered == pytest.approx([0.0, 0.1, 0.2, 0.0])
    incarnations.step = 4
    kept = read_state(incarnations.checkpoint(rank_zero)).regularizer
    assert kept == {"coefficient": pytest.approx(0.2), "below": 1.0}
    order, _ = incarnations.begin().next_order(4)
    assert order.strength == pytest.approx(0.2)


def test_what_a_checkpoint_lists_is_acknowledged_only_when_the_next_one_is_verified(
    incarnations: Incarnations,
) -> None:
    rank_zero = incarnations.begin()
    checkpoints, acknowledged = [], []
    for steps in (2, 3, 1):
        incarnations.learn(rank_zero, steps)
        before = incarnations.queue.stats.acknowledged
        checkpoints.append(incarnations.checkpoint(rank_zero))
        acknowledged.append(incarnations.queue.stats.acknowledged - before)
    assert acknowledged == [0, 2 * STEP_GROUPS, 3 * STEP_GROUPS]
    assert len(listed(checkpoints[0])) == 2 * STEP_GROUPS
    assert len(listed(checkpoints[1])) == 5 * STEP_GROUPS
    assert len(listed(checkpoints[2])) == 4 * STEP_GROUPS
    assert incarnations.unacknowledged >= listed(checkpoints[2]) - listed(checkpoints[1])
    assert not incarnations.unacknowledged & listed(checkpoints[1])


def test_a_checkpoint_that_cannot_be_committed_acknowledges_nothing(
    incarnations: Incarnations, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank_zero = incarnations.begin()
    incarnations.learn(rank_zero, 1)
    first = incarnations.checkpoint(rank_zero)
    incarnations.learn(rank_zero, 1)

    def crash(source: object, target: object) -> None:
        raise Crash

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(Crash):
        incarnations.checkpoint(rank_zero)
    monkeypatch.undo()
    assert incarnations.queue.stats.acknowledged == 0
    assert listed(first) <= incarnations.unacknowledged


@pytest.mark.parametrize("damaged", [False, True])
def test_falling_back_one_checkpoint_applies_every_group_exactly_once(
    incarnations: Incarnations, damaged: bool
) -> None:
    rank_zero = incarnations.begin()
    for steps in (2, 2):
        incarnations.learn(rank_zero, steps)
        newest = incarnations.checkpoint(rank_zero)
    incarnations.learn(rank_zero, 1)
    if damaged:
        (newest / "weights").write_bytes(b"x")

    second = incarnations.begin()
    assert incarnations.step == (2 if damaged else 4)
    incarnations.learn(second, 6 - incarnations.step)
    last = incarnations.checkpoint(second)
    groups = sorted(group_id for _, group_id in read_state(last).consumed)
    assert groups == sorted(f"{role}:{o}:0" for role in ("base", "adaptive") for o in range(6))
    assert incarnations.queue.stats.dead_lettered == 0
    incarnations.learn(second, 1)
    incarnations.checkpoint(second)
    assert incarnations.queue.stats.acknowledged == 6 * STEP_GROUPS


def test_a_schedule_that_began_at_the_measured_entropy_goes_on_from_the_checkpoint_alone(
    incarnations: Incarnations, run_id: str
) -> None:
    schedule = ScheduleConfig(kind="linear", to=0.2, until_step=8)
    control = EntropyControlConfig(target="auto", schedule=schedule)
    incarnations.config = incarnations.config.model_copy(update={"entropy_control": control})
    redis = incarnations.queue.redis

    def learn(rank_zero: RankZero, *entropies: float) -> list[float | None]:
        """The target in force at each step."""
        targets = []
        for entropy in entropies:
            incarnations.learn(rank_zero, 1)
            rank_zero.learned(measured(entropy), 1.0)
            applied = read_applied(redis, run_id)
            assert applied is not None
            targets.append(applied.target)
        return targets

    first = incarnations.begin()
    assert learn(first, math.nan) == [None]
    assert learn(first, 0.6, 0.5) == pytest.approx([0.55, 0.5])
    assert read_state(incarnations.checkpoint(first)).starting_entropy == 0.6
    learn(first, 0.4, 0.4)
    redis.hdel(RunKeys(run_id).entropy_target, "starting_entropy")

    second = incarnations.begin()
    assert learn(second, 0.3, 0.3) == pytest.approx([0.45, 0.4])
    document = read_entropy_target(redis, run_id)
    assert document is not None
    assert document.starting_entropy == 0.6


def test_a_learner_that_was_replaced_can_neither_commit_nor_acknowledge(incarnations: Incarnations) -> None:
    frozen = incarnations.begin()
    incarnations.learn(frozen, 1)
    incarnations.checkpoint(frozen)
    incarnations.learn(frozen, 1)
    thawed_at = incarnations.step
    incarnations.begin()
    incarnations.step = thawed_at
    with pytest.raises(FencedError):
        incarnations.checkpoint(frozen)
    assert incarnations.queue.stats.acknowledged == 0


def test_ten_deaths_at_ever_later_steps_give_up_no_group(incarnations: Incarnations) -> None:
    for death in range(10):
        incarnations.learn(incarnations.begin(), 1 + death // 2)
    incarnations.learn(incarnations.begin(), 6)
    assert incarnations.queue.admin.dead_letters() == []


def test_a_step_that_kills_every_learner_is_learned_without_its_groups(incarnations: Incarnations) -> None:
    for _ in range(incarnations.config.pipeline.max_deliveries):
        incarnations.learn(incarnations.begin(), 2)
        assert incarnations.queue.admin.dead_letters() == []
    incarnations.learn(incarnations.begin(), 3)
    letters = incarnations.queue.admin.dead_letters()
    assert {letter.group_id for letter in letters} == {"base:1:0", "adaptive:1:0"}
