"""Strict sampling on real engines: bit-identical rollouts, independent of the engine's other work and of failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis import Redis

from services.generation.strict_generator import StrictGenerator
from services.inference.engine import SamplingEngine
from services.inference.sample import Sample, SeededPrompt
from services.redis.access import RedisAccess
from services.replay.producer import Finished
from tests.support.generation.engines import ROLES, Engines
from tests.support.generation.generator_stage import PROMPTS, OnSharedEngine, Stage, running
from tests.support.generation.tiny import LearnerView, perturbed
from tests.support.replay_harness import group_bytes
from trainer.determinism import rollout_seed
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, PolicyVersion, VersionSpan

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

STRICT = {"determinism": {"strict": True}, "pipeline": {"max_staleness": 0}}
EOS, TOKENS = 1, 40


class StrictOnSharedEngine(OnSharedEngine, StrictGenerator):
    """A strict generator whose engine outlives it."""


@pytest.fixture
def stage(
    engines: Engines, redis_access: RedisAccess, redis: Redis, run_id: str, tiny_model_dir: Path
) -> Stage:
    """A stage with a new run."""
    return Stage(engines, redis_access, redis, run_id, tiny_model_dir)


def prompts(run_seed: int = 1) -> list[SeededPrompt]:
    """Twelve prompts of different lengths, with five responses each."""
    return [
        SeededPrompt(list(range(3, 10 + p % 5)), [rollout_seed(run_seed, f"base:{p}", i) for i in range(5)])
        for p in range(12)
    ]


async def in_order(engine: SamplingEngine, what: list[SeededPrompt]) -> list[list[Sample]]:
    sampled = await engine.sample_in_order(
        what, version=engine.version, temperature=1.0, max_tokens=TOKENS, end_tokens=(EOS,)
    )
    assert sampled is not None
    return sampled


async def traffic(engine: SamplingEngine, groups: int) -> None:
    await asyncio.gather(
        *(
            engine.sample([3, 4, 5 + g], n=3, temperature=1.3, max_tokens=9, end_tokens=(EOS,))
            for g in range(groups)
        )
    )


def bits(sampled: list[list[Sample]]) -> list[list[tuple[bytes, bytes]]]:
    return [[(s.tokens.tobytes(), s.logprobs.tobytes()) for s in group] for group in sampled]


@pytest.mark.parametrize("role", ROLES)
def test_what_is_sampled_in_order_does_not_depend_on_what_came_before(
    engines: Engines, tiny_model_dir: Path, role: Role
) -> None:
    engine = engines.reset(role, LearnerView(tiny_model_dir, perturbed(0.3, seed=1, head=0.15)))

    async def scene() -> None:
        wanted = bits(await in_order(engine, prompts()))
        for groups in (1, 7):
            await traffic(engine, groups)
            assert bits(await in_order(engine, prompts())) == wanted
        assert bits(await in_order(engine, prompts(run_seed=2))) != wanted
        assert len({rollout for group in wanted for rollout in group}) > 50, "responses repeat each other"

    engines.run(role, scene())


def test_weights_load_after_what_is_being_sampled_in_order_and_never_within(
    engines: Engines, tiny_model_dir: Path
) -> None:
    weights = LearnerView(tiny_model_dir, perturbed(0.3, seed=1, head=0.15))
    engine = engines.reset("base", weights)

    async def scene() -> None:
        old = engine.version
        wanted = bits(await in_order(engine, prompts()))
        sampling = asyncio.create_task(in_order(engine, prompts()))
        await asyncio.sleep(0.05)
        new = PolicyVersion(old.lineage, old.step + 1)
        await engine.load(new, LearnerView(tiny_model_dir).payload, LearnerView(tiny_model_dir).probe())
        assert sampling.done()
        assert bits(await sampling) == wanted
        assert {tuple(s.versions) for group in await sampling for s in group} == {(VersionSpan(0, *old),)}
        assert (
            await engine.sample_in_order(
                prompts(), version=old, temperature=1.0, max_tokens=TOKENS, end_tokens=(EOS,)
            )
            is None
        ), "the requested version is no longer loaded"
        assert bits(await in_order(engine, prompts())) != wanted

    engines.run("base", scene())


def test_giving_up_in_the_middle_leaves_a_working_engine(engines: Engines, tiny_model_dir: Path) -> None:
    engine = engines.reset("base", LearnerView(tiny_model_dir, perturbed(0.3, seed=1, head=0.15)))

    async def scene() -> None:
        wanted = bits(await in_order(engine, prompts()))
        for wait in (0.0, 0.03, 0.1):
            sampling = asyncio.create_task(in_order(engine, prompts()))
            await asyncio.sleep(wait)
            sampling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sampling
        assert bits(await asyncio.wait_for(in_order(engine, prompts()), 60)) == wanted

    engines.run("base", scene())


def rollouts(groups: list[Group]) -> dict[int, list[tuple[bytes, bytes]]]:
    """Tokens and log-probabilities of each rollout, by ordinal."""
    return {g.ordinal: [(t.response_tokens, t.behaviour_logprobs) for t in g.trajectories] for g in groups}


@pytest.mark.parametrize("role", ROLES)
def test_groups_that_a_dead_generator_left_are_what_they_would_have_been(
    engines: Engines,
    redis_access: RedisAccess,
    redis: Redis,
    run_id: str,
    tiny_model_dir: Path,
    role: Role,
) -> None:
    whole = Stage(engines, redis_access, redis, run_id, tiny_model_dir)
    rest = Stage(engines, redis_access, redis, f"{run_id}-again", tiny_model_dir)

    def produce(stage: Stage, done_before: int) -> None:
        async def scene(generator: OnSharedEngine) -> None:
            stage.publisher.set_actuators(1.2, 0.5, 0, 1)
            producer = generator._producer
            if done_before:
                await producer.lease(role, "dead", PROMPTS, PROMPTS, ttl=0)
            for ordinal in range(done_before):
                group = Finished(ordinal, 0, group_bytes(role, ordinal))
                assert await producer.add(role, "dead", [group]) == ["added"]
            async with running(generator):
                await stage.until(lambda: stage.produced() == PROMPTS)
                await asyncio.sleep(0.8)
                assert stage.leased(role) == PROMPTS, (
                    "at staleness 0 the next step must wait for the next version"
                )

        stage.act(role, scene, kind=StrictOnSharedEngine, **STRICT)

    produce(whole, 0)
    produce(rest, 3)
    groups = whole.groups()
    assert [group.ordinal for group in groups] == list(range(PROMPTS)), "not added in order"
    left = rollouts([group for group in rest.groups() if group.run_id == rest.run_id])
    assert left == {o: sampled for o, sampled in rollouts(groups).items() if o >= 3}


def test_nothing_is_sampled_under_the_actuators_of_another_step(stage: Stage) -> None:
    """After a rollback, the learner has set its checkpoint's actuators but has not sent its weights yet."""

    async def scene(generator: OnSharedEngine) -> None:
        stage.publisher.set_actuators(1.2, 0.5, 3, 1)
        async with running(generator):
            await asyncio.sleep(1.5)
            assert stage.produced() == 0
            stage.publisher.set_actuators(0.9, 0.5, 0, 1)
            await stage.until(lambda: stage.produced() == PROMPTS)

    stage.act("adaptive", scene, kind=StrictOnSharedEngine, **STRICT)
    assert {group.sampling_temperature for group in stage.groups()} == {0.9}


def test_an_evaluation_gives_the_same_counts_each_time(stage: Stage) -> None:
    counts: list[list[int]] = []

    async def scene(generator: OnSharedEngine) -> None:
        counts.append([found.correct for found in await generator.evaluate(range(20), 4, 1.0)])

    for _ in range(2):
        stage.act("base", scene, kind=StrictOnSharedEngine, **STRICT)
    assert counts[0] == counts[1]
    assert 0 < sum(counts[0]) < 80
