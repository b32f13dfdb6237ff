"""How a step record counts groups without a gradient and groups that generators made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.learner.collector import StepGroups
from services.learner.rank_zero import RankZero
from services.records.sinks import read_records
from services.records.step_record import StepRecord
from services.redis.access import RedisAccess
from services.replay.entries import Entry
from services.run.heartbeats import beat
from tests.support.replay_harness import make_group
from tests.support.runs.incarnations import Incarnations, measured
from trainer.roles import Role
from trainer.rollouts.trajectory import Group


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def rewarded(role: Role, ordinal: int, *rewards: float) -> tuple[tuple[str, int], tuple[Entry, Group]]:
    """A group with these rewards, at its place among a step's groups."""
    group = make_group(role, ordinal)
    rollouts = [msgspec.structs.replace(group.trajectories[0], reward=reward) for reward in rewards]
    group = msgspec.structs.replace(group, trajectories=rollouts)
    return (role, ordinal), (Entry("0-1", group.group_id, "g", b"", 1), group)


def record(incarnations: Incarnations, rank_zero: RankZero, groups: dict[Any, Any]) -> StepRecord:
    """The record of the next step with `groups` as its batch."""
    incarnations.learn(rank_zero, 1)
    rank_zero._recorder.batch(StepGroups(groups), Counter())
    rank_zero.learned(measured(0.3), 1.0)
    rank_zero._recorder.published(0, 0.0)
    rank_zero.finish_step()
    return read_records(Path(incarnations.spec.run_dir) / "steps.jsonl")[-1]


def test_base_groups_of_equal_rewards_are_counted_and_adaptive_ones_are_not(
    incarnations: Incarnations,
) -> None:
    groups = dict(
        [
            rewarded("base", 0, 1.0, 1.0, 1.0),
            rewarded("base", 1, 0.0, 0.0),
            rewarded("base", 2, 0.3, 0.3),
            rewarded("base", 3, 0.0, 1.0, 0.0),
            rewarded("base", 4, 0.3, 0.30001),
            rewarded("adaptive", 0, 1.0, 1.0),
            rewarded("adaptive", 1, 0.0, 1.0),
        ]
    )
    made = record(incarnations, incarnations.begin(), groups)
    assert (made.groups, made.base_groups, made.uniform_groups) == (7, 5, 3)
    assert (made.failed_groups, made.solved_groups) == (1, 1)


def test_rollouts_without_a_score_decide_nothing_about_their_group(incarnations: Incarnations) -> None:
    place, (entry, group) = rewarded("base", 0, 1.0, 0.0, 1.0)
    rollouts = list(group.trajectories)
    rollouts[1] = msgspec.structs.replace(rollouts[1], scored=False, verdict="TimeoutError")
    none = [msgspec.structs.replace(one, reward=0.0, scored=False) for one in rollouts]
    groups = {
        place: (entry, msgspec.structs.replace(group, trajectories=rollouts)),
        ("base", 1): (entry, msgspec.structs.replace(group, trajectories=none)),
    }
    made = record(incarnations, incarnations.begin(), groups)
    assert (made.base_groups, made.failed_groups, made.solved_groups) == (2, 0, 1)


def test_an_alarm_over_several_steps_outlives_a_restart_of_the_learner(incarnations: Incarnations) -> None:
    failed = dict(rewarded("base", ordinal, 0.0, 0.0) for ordinal in range(4))
    first = incarnations.begin()
    early = [record(incarnations, first, failed) for _ in range(2)]
    assert not any("all_uniform" in made.alarm_kinds for made in early)
    incarnations.checkpoint(first)
    second = incarnations.begin()
    made = record(incarnations, second, failed)
    assert (made.step, made.lineage) == (2, early[0].lineage + 1)
    alarms = dict(zip(made.alarm_kinds, made.alarms, strict=True))
    assert "equal rewards of 0" in alarms["all_uniform"]


def test_rollouts_without_a_score_are_counted_by_cause_and_make_no_group_unequal(
    incarnations: Incarnations,
) -> None:
    def without_score(role: Role, ordinal: int, *causes: str) -> tuple[tuple[str, int], tuple[Entry, Group]]:
        place, (entry, group) = rewarded(role, ordinal, *[1.0] * 3, *[0.0] * len(causes))
        unscored = [
            msgspec.structs.replace(rollout, scored=False, verdict=cause)
            for rollout, cause in zip(group.trajectories[3:], causes, strict=True)
        ]
        return place, (
            entry,
            msgspec.structs.replace(group, trajectories=[*group.trajectories[:3], *unscored]),
        )

    causes = [
        "too slow",
        "ValueError: 1 (reward.py:3)",
        "ValueError: 2",
        "SystemExit (reward.py:1)",
        "too slow",
    ]
    further = [f"Error{i}: " for i in range(6)]
    groups = dict([without_score("base", 0, *causes), without_score("adaptive", 0, "too slow", *further)])
    made = record(incarnations, incarnations.begin(), groups)
    assert (made.unscored_rollouts, made.uniform_groups) == (12, 1)
    assert made.unscored_causes["too slow"] == 3
    assert made.unscored_example == "too slow"
    assert made.unscored_causes["ValueError"] == 2
    assert made.unscored_causes["SystemExit"] == 1
    assert len(made.unscored_causes) == 6
    assert sum(made.unscored_causes.values()) == 12


def test_groups_made_again_are_those_since_the_last_step_over_all_generators(
    incarnations: Incarnations,
) -> None:
    redis, run_id = incarnations.queue.redis, incarnations.spec.run_id
    work = {"tokens": 0, "sampling_seconds": 0.0, "loading_seconds": 0.0, "restarts": 0}

    def refills(**by_generator: int) -> None:
        for name, total in by_generator.items():
            beat(redis, run_id, name, {"role": "base", "refills": total} | work)

    rank_zero = incarnations.begin()
    refills(base_0=3, base_1=4)
    assert record(incarnations, rank_zero, {}).refilled_groups == 7
    refills(base_0=5)
    assert record(incarnations, rank_zero, {}).refilled_groups == 2
    # One generator restarted: groups it made again before stay counted.
    refills(base_0=6, base_1=1)
    assert record(incarnations, rank_zero, {}).refilled_groups == 1
    refills(base_1=3)
    assert record(incarnations, rank_zero, {}).refilled_groups == 2
