"""Which problem each ordinal gets: the same in every incarnation, with refills and with a curriculum."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.replay.actuators import MIXES_KEPT, ActuatorPublisher, read_mix
from services.replay.consumer import ReplayConsumer
from trainer.config import CurriculumConfig, RunConfig
from trainer.config.load import validate_config
from trainer.errors import ScopeError
from trainer.rollouts.curriculum import Curriculum, StepMix, make_curriculum
from trainer.rollouts.problem_order import problem_at, refill_offset
from trainer.rollouts.rewards import is_uniform
from trainer.tasks import make_task
from trainer.tasks.mixture import Mixture

PLACES = 7
MEASURED = st.lists(st.lists(st.tuples(st.integers(-1, 3), st.booleans()), max_size=12), max_size=12)


def mixed(**task: Any) -> RunConfig:
    """Two Countdown tasks with different numbers in one run."""
    easy = {"name": "countdown", "max_number": 6, "max_target": 40, "heldout": 16, "weight": 3.0}
    hard = {"name": "countdown", "max_number": 9, "max_target": 50, "heldout": 16, "weight": 1.0}
    rollout = {"prompts_per_step": PLACES, "refills": 2}
    return validate_config({"task": {"name": "mixture", "mixture": [easy, hard], **task}, "rollout": rollout})


def curriculum(weights: list[float], ahead: int) -> Curriculum:
    config = CurriculumConfig.model_validate({"kind": "pass_rate", "smoothing": 0.5})
    return Curriculum(config, weights, places=PLACES, ahead=ahead)


@given(st.integers(1, 10_000), st.integers(0, 16), st.integers(0, 1000))
def test_refills_of_one_place_are_different_problems_of_the_stream(
    size: int, refills: int, place: int
) -> None:
    places = [place + refill_offset(attempt, refills, size) for attempt in range(refills + 1)]
    assert places[0] == place
    if size > refills * (refills + 1):
        assert len({p % size for p in places}) == refills + 1


def test_refills_change_no_first_attempt_and_each_is_another_problem() -> None:
    config = mixed()
    without = config.model_copy(update={"rollout": config.rollout.model_copy(update={"refills": 0})})
    task = make_task(config.task)
    first = [problem_at(task, config, ordinal).id for ordinal in range(50)]
    assert first == [problem_at(task, without, ordinal).id for ordinal in range(50)]
    assert first == [task.train_problem(config.data_position(ordinal)).id for ordinal in range(50)]
    second = [problem_at(task, config, ordinal, 1).id for ordinal in range(50)]
    third = [problem_at(task, config, ordinal, 2).id for ordinal in range(50)]
    assert len({*first, *second, *third}) == 150


@pytest.mark.parametrize(("rewards", "uniform"), [([0.0] * 4, True), ([0.3] * 2, True), ([0.0, 1.0], False)])
def test_a_group_is_uniform_where_its_rewards_are_all_equal(rewards: list[float], uniform: bool) -> None:
    assert is_uniform(rewards) == uniform


@given(MEASURED, st.integers(0, 3), st.integers(0, 12))
def test_a_curriculum_goes_on_from_a_checkpoint_as_if_nothing_had_happened(
    measured: list[list[tuple[int, bool]]], ahead: int, at: int
) -> None:
    straight, other = curriculum([1.0, 2.0, 0.5], ahead), curriculum([1.0, 2.0, 0.5], ahead)
    for step, outcomes in enumerate(measured):
        if step == at:
            kept = json.loads(json.dumps(other.state()))
            other = curriculum([1.0, 2.0, 0.5], ahead)
            other.restore(kept, step)
        straight.learned(step, outcomes)
        other.learned(step, outcomes)
        assert straight.mixes == other.mixes
        assert sorted(straight.mixes) == list(range(step + 1, step + 2 + ahead))


@given(MEASURED, st.integers(0, 3))
def test_each_part_hands_out_its_problems_in_order_and_none_twice(
    measured: list[list[tuple[int, bool]]], ahead: int
) -> None:
    running, mixes = curriculum([1.0, 2.0, 0.5], ahead), {}
    mixes |= running.mixes
    for step, outcomes in enumerate(measured):
        running.learned(step, outcomes)
        mixes |= running.mixes
    for part in range(3):
        within = [
            index
            for _, mix in sorted(mixes.items())
            for of, index in map(mix.place, range(PLACES))
            if of == part
        ]
        assert within == list(range(len(within)))


@given(MEASURED)
def test_a_mix_follows_only_from_steps_that_were_learned_before_it_may_be_sampled(
    measured: list[list[tuple[int, bool]]],
) -> None:
    ahead = 2
    one, other = curriculum([1.0, 2.0, 0.5], ahead), curriculum([1.0, 2.0, 0.5], ahead)
    for step, outcomes in enumerate(measured):
        one.learned(step, outcomes)
        other.learned(step, outcomes if step < len(measured) - 1 else [(0, True), (1, False), (2, False)])
    last = len(measured) + ahead
    assert {s: m for s, m in one.mixes.items() if s < last} == {
        s: m for s, m in other.mixes.items() if s < last
    }


def test_shares_go_to_parts_that_both_fail_and_succeed_and_never_below_the_floor() -> None:
    running = curriculum([1.0, 1.0, 1.0], 0)
    assert running.shares == pytest.approx([1 / 3] * 3)
    for step in range(20):
        running.learned(step, [(0, True), (1, True), (1, False), (2, False)])
    assert running.pass_rates == pytest.approx([1.0, 0.5, 0.0])
    assert running.shares == pytest.approx([0.1 / 1.2, 1 / 1.2, 0.1 / 1.2])
    parts = [part for step in range(20, 70) for part in _mix_after(running, step).parts]
    counts = [parts.count(part) / len(parts) for part in range(3)]
    assert counts == pytest.approx(running.shares, abs=0.02)


def _mix_after(running: Curriculum, step: int) -> StepMix:
    mix = running.mixes[step]
    running.learned(step, [])
    return mix


def test_problems_of_a_mix_are_those_of_its_parts_and_refills_stay_in_the_part() -> None:
    config = mixed(curriculum={"kind": "pass_rate"})
    task, running = make_task(config.task), make_curriculum(config)
    assert isinstance(task, Mixture)
    assert running is not None
    seen = []
    for step, mix in running.mixes.items():
        for slot, part in enumerate(mix.parts):
            problem = problem_at(task, config, step * PLACES + slot, 0, mix)
            refill = problem_at(task, config, step * PLACES + slot, 1, mix)
            assert Mixture.part_of(problem.id) == Mixture.part_of(refill.id) == part
            seen += [problem.id, refill.id]
    assert len(seen) == len(set(seen)) == 2 * 2 * PLACES


@pytest.mark.parametrize("name", ["", "x:1", "²:1", "-1:a", "9999999:a"])
def test_what_is_no_id_of_a_mixture_belongs_to_no_part(name: str) -> None:
    assert Mixture.part_of(name) == -1


def test_other_parts_than_the_checkpoint_has_are_refused() -> None:
    with pytest.raises(ScopeError, match="3 parts and the checkpoint's curriculum 2"):
        curriculum([1.0, 1.0, 1.0], 0).restore(curriculum([1.0, 1.0], 0).state(), 0)


def test_a_curriculum_without_a_mixture_is_refused() -> None:
    with pytest.raises(ScopeError, match=r"task\.name=mixture"):
        validate_config({"task": {"curriculum": {"kind": "pass_rate"}}})


async def _read(access: RedisAccess, run_id: str, step: int) -> StepMix:
    redis = access.asyncio()
    try:
        return await read_mix(redis, run_id, step)
    finally:
        await redis.aclose()


def test_generators_read_the_mix_that_the_newest_learner_decided(
    redis: Redis, redis_access: RedisAccess, run_id: str
) -> None:
    def open_publisher() -> ActuatorPublisher:
        return ActuatorPublisher(redis, run_id, ReplayConsumer(redis, run_id, max_deliveries=3).open())

    old = open_publisher()
    old.set_mixes({0: StepMix([0, 1], [0, 0]), 1: StepMix([1, 1], [1, 1])})
    assert asyncio.run(_read(redis_access, run_id, 1)) == StepMix([1, 1], [1, 1])
    newer = open_publisher()
    with pytest.raises(FencedError):
        old.set_mixes({1: StepMix([0, 0], [1, 1])})
    newer.set_mixes({MIXES_KEPT + 1: StepMix([0, 0], [5, 5])})
    with pytest.raises(RuntimeError, match="before its mixture was decided"):
        asyncio.run(_read(redis_access, run_id, 0))
    assert asyncio.run(_read(redis_access, run_id, 1)) == StepMix([1, 1], [1, 1])
