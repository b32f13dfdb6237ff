"""Checkpoints written while the learner continues: when one is due, and what it lets the queue acknowledge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.learner.rank_zero import RankZero
from services.learner.start_rank_zero import start_rank_zero
from services.redis.access import RedisAccess
from services.run.control import desired, request_action
from tests.support.runs.incarnations import STEP_GROUPS, Incarnations
from trainer.checkpoint.store import Best, CheckpointStore, read_state


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def begin(incarnations: Incarnations, rank_zero: RankZero) -> Callable[[], None]:
    """Take a snapshot; the returned commit is the writer's later work."""
    folder = rank_zero.open_checkpoint(incarnations.step)
    (folder / "weights").write_bytes(b"w")
    return rank_zero.begin_checkpoint(incarnations.step)


def follows(incarnations: Incarnations, rank_zero: RankZero) -> bool:
    """Learn one step; returns whether a checkpoint follows it."""
    order, _ = rank_zero.next_order(incarnations.step)
    incarnations.step += 1
    return order.checkpoint_after


def change(incarnations: Incarnations, **fields: object) -> None:
    checkpoint = incarnations.config.checkpoint.model_copy(update=fields)
    incarnations.config = incarnations.config.model_copy(update={"checkpoint": checkpoint})


def test_what_is_learned_while_a_checkpoint_is_in_flight_belongs_to_the_next_one(
    incarnations: Incarnations,
) -> None:
    rank_zero = incarnations.begin()
    incarnations.learn(rank_zero, 2)
    first = begin(incarnations, rank_zero)
    incarnations.learn(rank_zero, 1)
    first()
    rank_zero.settle()
    incarnations.learn(rank_zero, 1)
    second = begin(incarnations, rank_zero)
    incarnations.learn(rank_zero, 3)
    assert incarnations.queue.stats.acknowledged == 0, "the second checkpoint is not committed yet"
    second()
    assert incarnations.queue.stats.acknowledged == 0
    rank_zero.settle()
    assert incarnations.queue.stats.acknowledged == 2 * STEP_GROUPS
    third = incarnations.checkpoint(rank_zero)
    assert incarnations.queue.stats.acknowledged == 4 * STEP_GROUPS
    assert len(read_state(third).consumed) == 5 * STEP_GROUPS


def test_a_learner_that_dies_with_a_checkpoint_in_flight_applies_every_group_exactly_once(
    incarnations: Incarnations,
) -> None:
    rank_zero = incarnations.begin()
    incarnations.learn(rank_zero, 2)
    incarnations.checkpoint(rank_zero)
    incarnations.learn(rank_zero, 2)
    begin(incarnations, rank_zero)
    incarnations.learn(rank_zero, 1)
    second = incarnations.begin()
    assert incarnations.step == 2
    incarnations.learn(second, 3)
    groups = sorted(group for _, group in read_state(incarnations.checkpoint(second)).consumed)
    assert groups == sorted(f"{role}:{o}:0" for role in ("base", "adaptive") for o in range(5))


def test_a_checkpoint_is_due_by_steps_or_by_seconds_whichever_comes_first(
    incarnations: Incarnations,
) -> None:
    change(incarnations, every_steps=4, every_seconds=3600.0)
    rank_zero = incarnations.begin()
    assert [follows(incarnations, rank_zero) for _ in range(8)] == [False, False, False, True] * 2
    change(incarnations, every_steps=1000, every_seconds=1.0)
    rank_zero = incarnations.begin()
    assert not follows(incarnations, rank_zero)
    time.sleep(1.1)
    assert follows(incarnations, rank_zero)
    incarnations.checkpoint(rank_zero)
    assert not follows(incarnations, rank_zero), "the interval must restart"


def test_a_checkpoint_that_was_asked_for_counts_as_written_when_it_is_there(
    incarnations: Incarnations, run_id: str
) -> None:
    redis = incarnations.queue.redis
    rank_zero = incarnations.begin()
    incarnations.learn(rank_zero, 1)
    request_action(redis, run_id, "checkpoint", "ada")
    assert rank_zero.next_order(1)[0].kind == "checkpoint"
    commit = begin(incarnations, rank_zero)
    rank_zero.answer_checkpoint()
    incarnations.learn(rank_zero, 1)
    assert desired(redis, run_id).checkpoints == 1
    commit()
    incarnations.learn(rank_zero, 1)
    assert desired(redis, run_id).checkpoints == 0


def test_a_wait_for_groups_ends_with_the_failure_of_the_checkpoint_in_flight(
    incarnations: Incarnations,
) -> None:
    failures: list[Exception] = []

    def check_writer() -> None:
        if failures:
            raise failures[0]

    rank_zero = start_rank_zero(incarnations.spec, check_writer)
    try:
        failures.append(OSError("the disk is gone"))
        with pytest.raises(OSError, match="the disk is gone"):
            rank_zero.next_order(0)
    finally:
        rank_zero.end()


def test_the_mirror_learns_of_a_best_that_an_evaluation_during_training_chose(
    incarnations: Incarnations, tmp_path: Path
) -> None:
    change(incarnations, mirror=(tmp_path / "mirror").as_uri())
    rank_zero = incarnations.begin()
    incarnations.learn(rank_zero, 1)
    begin(incarnations, rank_zero)()
    rank_zero.settle()
    (kept,) = tmp_path.rglob("checkpoints/step-*")
    assert CheckpointStore(kept.parent, keep=2).offer(Best(incarnations.step, 1, 0.5))
    assert not list((tmp_path / "mirror").rglob("best.json"))
    incarnations.learn(rank_zero, 1)
    begin(incarnations, rank_zero)()
    (best,) = (tmp_path / "mirror").rglob("best.json")
    assert best.read_bytes() == (kept.parent / "best.json").read_bytes()
