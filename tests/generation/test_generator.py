"""The generator with a real engine and a real queue: pacing, output, and stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from transformers import AutoTokenizer

from services.inference.engine import WeightLoadError
from services.inference.sample import Sample
from services.online_eval.jobs import EvaluationJobs
from services.redis.access import RedisAccess
from services.replay.producer import ReplayProducer
from services.run.heartbeats import generators
from services.weights.serialization import serialize
from tests.support.generation.engines import ROLES, Engines
from tests.support.generation.generator_stage import PROMPTS, STALENESS, STEPS, OnSharedEngine, Stage, running
from tests.support.generation.rally import REPLY, TURNS
from tests.support.generation.tiny import LearnerView, perturbed
from trainer.roles import Role
from trainer.rollouts.problem_order import problem_at
from trainer.rollouts.rewards import is_uniform
from trainer.rollouts.trajectory import PolicyVersion
from trainer.tasks import NO_END, Problem, Verdict, make_task

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture
def stage(
    engines: Engines, redis_access: RedisAccess, redis: Redis, run_id: str, tiny_model_dir: Path
) -> Stage:
    """A stage with a new run."""
    return Stage(engines, redis_access, redis, run_id, tiny_model_dir)


@pytest.mark.parametrize("role", ROLES)
def test_pacing_holds_the_generator_until_a_load_lets_it_go_on(stage: Stage, role: Role) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        lineage = generator._shared.version.lineage
        async with running(generator):
            await asyncio.sleep(0.8)
            assert stage.leased(role) == 0, "it leased before the learner set the actuators"
            stage.publisher.set_actuators(1.2, 0.5, 0, 1)
            for step, allowed in ((0, 2), (1, 3), (3, STEPS)):
                if step:
                    await generator.load(
                        PolicyVersion(lineage, step), stage.learner.payload, stage.learner.probe()
                    )
                await stage.until(lambda allowed=allowed: stage.produced() == allowed * PROMPTS)
                await asyncio.sleep(0.8)
                assert stage.leased(role) == stage.produced() == allowed * PROMPTS

    stage.act(role, scene)
    for group in stage.groups():
        assert group.ordinal // PROMPTS - group.oldest_step <= STALENESS


def test_groups_decode_and_their_rewards_are_those_of_the_verifier(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.2, 0.5, 0, 1)
        async with running(generator):
            for step in (1, 3):
                version = PolicyVersion(generator._shared.version.lineage, step)
                await generator.load(version, stage.learner.payload, stage.learner.probe())
            await stage.until(lambda: stage.produced() == STEPS * PROMPTS)

    stage.act("base", scene)
    groups, task = stage.groups(), make_task(stage.config().task)
    tokenizer = AutoTokenizer.from_pretrained(stage.model_dir)
    assert sorted(g.ordinal for g in groups) == list(range(STEPS * PROMPTS))
    rewards = []
    for group in groups:
        problem = task.train_problem(stage.config().data_position(group.ordinal))
        assert (group.run_id, group.problem_id) == (stage.run_id, problem.id)
        assert tokenizer.decode(group.prompt) == problem.prompt
        assert [t.group_index for t in group.trajectories] == [0, 1, 2, 3]
        assert {t.logprob_temperature for t in group.trajectories} == {group.sampling_temperature} == {0.7}
        expectations = stage.learner.logprobs(
            group.prompt.tolist(), [t.tokens for t in group.trajectories], 0.7
        )
        for trajectory, expected in zip(group.trajectories, expectations, strict=True):
            ended = trajectory.tokens[-1] == tokenizer.eos_token_id
            assert ended == (trajectory.finish_reason == "stop")
            text = str(tokenizer.decode(trajectory.tokens[:-1]))
            verdict = task.verify(problem, text) if ended else NO_END
            assert (trajectory.reward, trajectory.verdict) == (verdict.reward, verdict.verdict)
            np.testing.assert_allclose(trajectory.logprobs, expected, atol=1e-3)
            rewards.append(trajectory.reward)
    assert {0.0, 1.0} <= set(rewards)


def test_an_environment_takes_turns_and_its_tokens_are_masked(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.2, 0.5, 0, 1)
        async with running(generator):
            await stage.until(lambda: stage.produced() == 2 * PROMPTS)

    blocks: dict[str, Any] = {
        "task": {"name": "tests.support.generation.rally:Rally"},
        "rollout": {"max_new_tokens": 40},
    }
    stage.act("base", scene, **blocks)
    tokenizer = AutoTokenizer.from_pretrained(stage.model_dir)
    (reply,) = tokenizer.encode(REPLY)
    turns = []
    for group in stage.groups():
        expectations = stage.learner.logprobs(
            group.prompt.tolist(), [t.tokens for t in group.trajectories], 0.7
        )
        for trajectory, expected in zip(group.trajectories, expectations, strict=True):
            tokens, counted = trajectory.tokens, trajectory.mask == 1
            ends = [i for i, token in enumerate(tokens[:-1]) if token == tokenizer.eos_token_id]
            heard = [end + 1 for end in ends]
            assert np.flatnonzero(~counted).tolist() == heard
            assert {int(tokens[i]) for i in heard} <= {reply}
            assert len(tokens) <= 40
            np.testing.assert_allclose(trajectory.logprobs[counted], expected[counted], atol=1e-3)
            assert (trajectory.finish_reason == "stop") == (trajectory.verdict in ("different", "same"))
            turns.append(len(ends) + 1)
    assert max(turns) == TURNS


def test_groups_of_equal_rewards_are_made_again_of_other_problems(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.2, 0.5, 0, 1)
        async with running(generator):
            await stage.until(lambda: stage.produced() == 2 * PROMPTS)

    stage.act("base", scene, rollout={"refills": 3})
    config = stage.config(rollout={"refills": 3})
    task, refilled = make_task(config.task), 0
    for group in stage.groups():
        tries = [problem_at(task, config, group.ordinal, attempt).id for attempt in range(4)]
        attempt = tries.index(group.problem_id)
        refilled += attempt
        assert attempt == 3 or not is_uniform([t.reward for t in group.trajectories])
    (beat,) = generators(stage.redis, stage.run_id).values()
    assert beat["refills"] == refilled > 0


def test_the_engine_samples_on_while_a_slow_verifier_works_up_to_a_bound(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.2, 0.5, 0, 1)
        gate, verified, rewards = asyncio.Event(), 0, generator._scorer.rewards

        async def slow(problem: Problem, samples: Sequence[Sample]) -> list[Verdict]:
            nonlocal verified
            verified += 1
            await gate.wait()
            return await rewards(problem, samples)

        generator._scorer.rewards = slow
        async with running(generator):
            await stage.until(lambda: verified == 4)
            await asyncio.sleep(0.8)
            assert (verified, stage.leased("base"), stage.produced()) == (4, 4, 0)
            gate.set()
            await stage.until(lambda: stage.produced() == 2 * PROMPTS)

    stage.act("base", scene, generators={"groups_in_flight": 2})


def test_adaptive_rollouts_follow_the_actuators_that_their_lease_came_with(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(0.05, 0.5, 0, 3)
        async with running(generator):
            await stage.until(lambda: stage.produced() == 2 * PROMPTS)
            stage.publisher.set_actuators(1.6, 0.5, 1, 4)
            version = PolicyVersion(generator._shared.version.lineage, 1)
            await generator.load(version, stage.learner.payload, stage.learner.probe())
            await stage.until(lambda: stage.produced() == 3 * PROMPTS)

    stage.act("adaptive", scene)
    groups = sorted(stage.groups(), key=lambda g: g.ordinal)
    cold, hot = groups[: 2 * PROMPTS], groups[2 * PROMPTS :]
    assert {(g.sampling_temperature, g.entropy_target_generation) for g in cold} == {(0.05, 3)}
    assert {(g.sampling_temperature, g.entropy_target_generation) for g in hot} == {(1.6, 4)}
    distinct = [len({t.response_tokens for t in g.trajectories}) for g in groups]
    assert np.mean(distinct[: len(cold)]) < 2.3, "not sampled at 0.05"
    assert np.mean(distinct[len(cold) :]) > 3, "not sampled at 1.6"
    for group in groups:
        assert {t.logprob_temperature for t in group.trajectories} == {1.0}
        expectations = stage.learner.logprobs(
            group.prompt.tolist(), [t.tokens for t in group.trajectories], 1.0
        )
        for trajectory, expected in zip(group.trajectories, expectations, strict=True):
            np.testing.assert_allclose(trajectory.logprobs, expected, atol=1e-3)


def test_a_living_generator_keeps_its_leases_and_a_stopped_one_lets_them_expire(stage: Stage) -> None:
    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.0, 0.5, 0, 1)
        other_redis = stage.access.asyncio()
        other = ReplayProducer(other_redis, stage.run_id, capacity=100)
        await generator._shared._engine.pause_generation(mode="keep", clear_cache=True)
        try:
            async with running(generator):
                await stage.until(lambda: stage.leased("base") == 8)
                for _ in range(7):
                    await asyncio.sleep(0.5)
                    assert (await other.lease("base", "other", 8, 8, 30)).ordinals == []
                (beat,) = (await asyncio.to_thread(generators, stage.redis, stage.run_id)).values()
                assert (beat["state"], beat["in_flight"]) == ("sampling", 8)
            await asyncio.sleep(3.2)
            assert (await other.lease("base", "other", 8, 8, 30)).ordinals == list(range(8))
            assert stage.produced() == 0
        finally:
            await generator._shared._engine.resume_generation()
            await other_redis.aclose()

    stage.act("base", scene, pipeline={"lease_seconds": 3.0})


def test_nothing_sampled_with_weights_that_failed_their_proof_enters_the_queue(stage: Stage) -> None:
    wanted = LearnerView(stage.model_dir, perturbed(0.3, seed=7))
    half = wanted.weights | dict(list(stage.learner.weights.items())[::2])

    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.0, 0.5, 0, 1)
        await generator._shared._engine.pause_generation(mode="keep", clear_cache=True)
        task = asyncio.create_task(generator.run())
        await stage.until(lambda: stage.leased("base") == 8)
        version = PolicyVersion(generator._shared.version.lineage, 1)
        with pytest.raises(WeightLoadError):
            await generator.load(version, serialize(half), wanted.probe())
        with pytest.raises(WeightLoadError):
            await asyncio.wait_for(task, 10)

    stage.act("base", scene)
    assert stage.produced() == 0


def test_evaluation_counts_the_right_answers_to_held_out_problems(stage: Stage) -> None:
    drawn: dict[tuple[int, ...], list[Sample]] = {}
    counted: list[int] = []

    async def scene(generator: OnSharedEngine) -> None:
        sample = generator._shared.sample

        async def recording(prompt: list[int], **settings: Any) -> list[Sample]:
            drawn[tuple(prompt)] = await sample(prompt, **settings)
            return drawn[tuple(prompt)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generator._shared, "sample", recording)
            counted.extend(counts.correct for counts in await generator.evaluate(range(20), 24, 1.0))

    stage.act("base", scene)
    task, tokenizer = make_task(stage.config().task), AutoTokenizer.from_pretrained(stage.model_dir)
    expected = []
    for index in range(20):
        problem = task.heldout_problem(index)
        samples = drawn[tuple(tokenizer.encode(problem.prompt))]
        assert len(samples) == 24
        texts = [str(tokenizer.decode(s.tokens[:-1])) for s in samples if s.finish_reason == "stop"]
        expected.append(sum(task.verify(problem, text).reward == 1 for text in texts))
    assert counted == expected
    assert sum(expected) > 0


def test_a_generator_that_waits_evaluates_and_makes_the_same_groups_as_without(stage: Stage) -> None:
    jobs = EvaluationJobs(stage.redis, stage.run_id)
    evaluation = {"problems": 10, "samples": 32, "ks": [1, 4], "every_steps": 1}

    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.0, 0.5, 0, 1)
        jobs.open(0, 10)
        async with running(generator):
            await stage.until(lambda: jobs.finished() == 10 and stage.produced() == 2 * PROMPTS)

    stage.act("base", scene, evaluation=evaluation)
    assert stage.leased("base") == 2 * PROMPTS
    task = make_task(stage.config().task)
    found = {group.ordinal: group.problem_id for group in stage.groups()}
    position = stage.config().data_position
    assert found == {o: task.train_problem(position(o)).id for o in range(2 * PROMPTS)}
    counted = jobs.close()
    assert sorted(counted) == list(range(10))
    assert all(0 <= c.correct <= 32 and (c.oldest, c.newest) == (0, 0) for c in counted.values())
    assert sum(c.correct for c in counted.values()) > 0
