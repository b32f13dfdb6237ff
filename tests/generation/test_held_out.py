"""Evaluations during training: assignment of problems, when an evaluation is due, and incomplete evaluations."""

from __future__ import annotations

import asyncio

import pytest

from services.online_eval.jobs import CorrectCount, EvaluationJobs, EvaluationLeases
from services.online_eval.scheduler import EvaluationScheduler
from services.online_eval.worker import EvaluationWorker
from services.redis.keys import RunKeys
from services.results.evaluations import Evaluations
from services.run.state import evaluations
from tests.support.control_plane import start_run
from tests.support.generation.tiny import tiny_config
from tests.support.runs.checkpoints import write
from trainer.checkpoint.store import Best, CheckpointStore
from trainer.config.load import validate_config
from trainer.errors import ScopeError
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.usable_problems import UsableProblems
from trainer.starting_model.tiny_model import build_tokenizer
from trainer.tasks import make_task
from trainer.tasks.countdown.task import Countdown


def with_leases(redis_access, run_id, body, ttl=5.0):
    async def run():
        redis = redis_access.asyncio()
        try:
            return await body(EvaluationLeases(redis, run_id, ttl))
        finally:
            await redis.aclose()

    return asyncio.run(run())


def test_problems_are_given_out_once_and_only_to_engines_that_run_the_version(redis, redis_access, run_id):
    EvaluationJobs(redis, run_id).open(5, 3)

    async def body(leases):
        assert await leases.lease(4, 2) is None
        first, second = await leases.lease(5, 2), await leases.lease(6, 2)
        assert (first[1], second[1]) == ([0, 1], [2])
        assert await leases.lease(9, 2) is None
        redis.set(RunKeys(run_id).control, "pause")
        EvaluationJobs(redis, run_id).open(5, 3)
        assert await leases.lease(9, 2) is None

    with_leases(redis_access, run_id, body)


def test_what_a_dead_generator_held_goes_to_another_and_the_first_result_counts(redis, redis_access, run_id):
    jobs = EvaluationJobs(redis, run_id)
    jobs.open(1, 1)

    async def body(leases):
        job, problems = await leases.lease(1, 4)
        assert problems == [0]
        await asyncio.sleep(0.2)
        assert await leases.lease(1, 4) == (job, [0])
        assert await leases.submit(job, 0, CorrectCount(3, 1, 2))
        assert not await leases.submit(job, 0, CorrectCount(1, 1, 1))
        await asyncio.sleep(0.2)
        assert await leases.lease(1, 4) is None
        assert jobs.close() == {0: CorrectCount(3, 1, 2)}
        assert not await leases.submit(job, 0, CorrectCount(3, 1, 2))

    with_leases(redis_access, run_id, body, ttl=0.1)


def course(redis, run_id, tmp_path, steps=100) -> tuple[EvaluationScheduler, Evaluations, EvaluationJobs]:
    start_run(redis, run_id)
    config = tiny_config(
        evaluation={"problems": 2, "samples": 4, "ks": [1, 4], "every_steps": 10},
        checkpoint={"every_steps": 5},
    )
    config = config.model_copy(update={"steps": steps})
    kept = Evaluations(tmp_path / "evaluations.json")
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    return EvaluationScheduler(redis, run_id, config, kept, store, 0), kept, EvaluationJobs(redis, run_id)


def submit(redis_access, run_id, step, problems):
    async def body(leases):
        job, leased = await leases.lease(step, problems)
        for problem in leased:
            await leases.submit(job, problem, CorrectCount(2, step, step + 1))

    with_leases(redis_access, run_id, body)


def test_a_complete_evaluation_enters_the_files_and_redis(redis, redis_access, run_id, tmp_path):
    scheduler, kept, _ = course(redis, run_id, tmp_path)
    assert scheduler.update(redis, 9) == []
    scheduler.update(redis, 11)
    submit(redis_access, run_id, 11, 2)
    (note,) = scheduler.update(redis, 12)
    assert "step 10 (sampled up to step 12): held-out pass@1 0.500" in note
    (found,) = Evaluations(tmp_path / "evaluations.json").all
    assert (found.step, found.correct, found.oldest, found.newest) == (10, [2, 2], 11, 12)
    assert kept.incomplete == []
    assert evaluations(redis, run_id) == [{"step": 10, "pass_at_k": {"1": 0.5, "4": 1.0}}]


def test_the_checkpoint_of_an_evaluated_step_stays_until_it_is_known_whether_it_is_the_best(
    redis, redis_access, run_id, tmp_path
):
    """Two checkpoints are kept besides the best one; one is written every five steps."""
    scheduler, _, _ = course(redis, run_id, tmp_path)
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    scheduler.update(redis, 10)
    for step in (10, 15, 20, 25):
        write(store, step)
    assert kept_steps(store) == [10, 20, 25]
    submit(redis_access, run_id, 10, 2)
    scheduler.update(redis, 19)
    assert store.best == Best(10, 1, 0.5)
    scheduler.update(redis, 30)
    write(store, 30)
    assert kept_steps(store) == [10, 25, 30]
    submit(redis_access, run_id, 34, 2)
    scheduler.update(redis, 35)
    assert store.best == Best(10, 1, 0.5), "its problems were sampled only when the next checkpoint was due"
    for step in (35, 40):
        write(store, step)
    assert kept_steps(store) == [10, 35, 40]


def test_a_checkpoint_whose_evaluation_ended_without_a_result_goes(redis, redis_access, run_id, tmp_path):
    scheduler, _, _ = course(redis, run_id, tmp_path)
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    scheduler.update(redis, 10)
    write(store, 10)
    scheduler.update(redis, 8)
    for step in (15, 20):
        write(store, step)
    assert kept_steps(store) == [15, 20]


def kept_steps(store):
    return sorted(int(path.name.removeprefix("step-")) for path in store.directory.glob("step-*"))


def test_one_that_nobody_finished_is_incomplete_and_the_run_waits_for_nothing(
    redis, redis_access, run_id, tmp_path
):
    scheduler, kept, _ = course(redis, run_id, tmp_path)
    scheduler.update(redis, 10)
    submit(redis_access, run_id, 10, 1)
    (note,) = scheduler.update(redis, 20)
    assert "step 10 is incomplete: 1 of 2" in note
    assert "no generator had time for the evaluation of step 20" in str(scheduler.close())
    assert [(e.step, e.missing) for e in kept.incomplete] == [(10, 1), (20, 2)]
    assert kept.all == []
    assert evaluations(redis, run_id) == []


def test_a_learner_that_goes_back_is_evaluated_again(redis, redis_access, run_id, tmp_path):
    scheduler, kept, jobs = course(redis, run_id, tmp_path, steps=20)
    scheduler.update(redis, 10)
    assert scheduler.update(redis, 8) == []
    assert jobs.finished() == 0
    assert not redis.exists(RunKeys(run_id).held_out)
    scheduler.update(redis, 10)
    assert redis.hget(RunKeys(run_id).held_out, "step") == b"10"
    scheduler.update(redis, 20)
    assert not redis.exists(RunKeys(run_id).held_out), "the last step is evaluated separately"
    assert [e.step for e in kept.incomplete] == [10]


def test_a_worker_raises_what_a_verifier_failed_with(redis, redis_access, run_id):
    config = tiny_config(evaluation={"problems": 2, "samples": 4, "ks": [1], "every_steps": 1})
    EvaluationJobs(redis, run_id).open(0, 2)

    async def no_verdict(problem, samples, temperature):
        raise ScopeError("no verdict")

    async def body(leases):
        codec = PromptCodec(build_tokenizer(Countdown.vocabulary, 64), config)
        problems = UsableProblems(make_task(config.task), config, codec)
        worker = EvaluationWorker(leases, config, problems, no_verdict)
        await worker.lease(0)
        assert worker.busy
        await asyncio.sleep(0.01)
        with pytest.raises(ScopeError, match="no verdict"):
            worker.raise_failures()
        await worker.end()

    with_leases(redis_access, run_id, body)


def test_a_strict_run_has_no_evaluations_on_the_way():
    with pytest.raises(ScopeError, match=r"evaluation\.every_steps=5 is not allowed with"):
        validate_config(
            {
                "determinism": {"strict": True},
                "pipeline": {"max_staleness": 0},
                "evaluation": {"every_steps": 5},
            }
        )
