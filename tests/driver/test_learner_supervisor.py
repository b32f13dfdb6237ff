"""The learner's incarnations: which failures are retried, which are not, and when the supervisor gives up."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from redis.exceptions import ConnectionError as RedisConnectionError

from services.driver.learner_failure import LearnerFailure, learner_failure
from services.driver.learner_supervisor import LearnerSupervisor
from services.learner.spec import LearnerSpec
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from trainer.config import RunConfig
from trainer.errors import ScopeError

DIED = LearnerFailure("the process of rank 1 died", permanent=False)


class Job:
    """An incarnation with the outcome set by the test."""

    def __init__(self, spec: LearnerSpec, failure: LearnerFailure | None) -> None:
        self.spec, self.failure, self.started = spec, failure, False

    def start(self) -> None:
        self.started = True

    def wait(self, seconds: float) -> bool:
        return True


class Learner:
    """A supervisor whose incarnations have the outcomes in `ends`, one after another."""

    def __init__(self, run_dir: Path, *ends: LearnerFailure | None, max_restarts: int = 2) -> None:
        self._ends, self.jobs = list(ends), list[Job]()
        spec = LearnerSpec(
            run_id="run",
            config=RunConfig.model_validate({"learner": {"max_restarts": max_restarts}}),
            config_hash="h",
            model_dir="",
            run_dir=str(run_dir),
            redis=RedisAccess("redis://127.0.0.1:1/0"),
            generator_ids=(),
        )
        self.supervisor = LearnerSupervisor(spec, self._launch)
        self.supervisor.start(0)

    def _launch(self, spec: LearnerSpec) -> Job:
        self.jobs.append(Job(spec, self._ends.pop(0)))
        return self.jobs[-1]


def test_a_learner_that_died_begins_again_from_the_newest_checkpoint_and_is_counted(tmp_path: Path) -> None:
    for step in (4, 8):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    learner = Learner(tmp_path, DIED, None)
    assert not learner.supervisor.wait(0)
    said = learner.supervisor.restart(9)
    assert said == "the learner ended and is restarted (1 of 2) from step 8: the process of rank 1 died"
    assert [job.spec.restarts for job in learner.jobs] == [0, 1]
    assert learner.jobs[1].started
    assert learner.supervisor.wait(0)
    assert learner.supervisor.restart(9) is None


def test_a_learner_that_gets_no_further_than_before_ends_the_run(tmp_path: Path) -> None:
    learner = Learner(tmp_path, *[DIED] * 9)
    # Steps 5 to 7 run three times; none is beyond the first incarnation's last step.
    for steps_done in (7, 6, 7):
        if steps_done == 7 and len(learner.jobs) == 3:
            with pytest.raises(
                ScopeError, match=r"max_restarts=2 restarts without a step beyond 7: .* rank 1 died"
            ):
                learner.supervisor.restart(steps_done)
        else:
            assert learner.supervisor.restart(steps_done) is not None


def test_a_learner_that_gets_further_each_time_may_die_without_end(tmp_path: Path) -> None:
    learner = Learner(tmp_path, *[DIED] * 9, None)
    for steps_done in range(1, 10):
        said = learner.supervisor.restart(steps_done)
        assert said is not None
        assert "(1 of 2)" in said
    assert learner.jobs[-1].spec.restarts == 9


def test_what_would_happen_again_is_not_tried_again(tmp_path: Path) -> None:
    learner = Learner(tmp_path, LearnerFailure("the disk is full", permanent=True))
    with pytest.raises(ScopeError, match="the learner ended: the disk is full"):
        learner.supervisor.wait(0)
    assert len(learner.jobs) == 1


def rank_error(error: Exception) -> Exception:
    """An error in a rank's own code, as Ray Train reports it."""
    return UserExceptionWithTraceback(error, f"Traceback ...\n{error!r}")


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (ScopeError("loss.minibatches=3 is wrong"), True),
        (FencedError(1, 2), True),
        (FloatingPointError("gradient norm [nan] is not finite"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (RuntimeError("MISCONF Errors writing to the AOF file: No space left on device"), True),
        (RedisConnectionError("connection refused"), False),
        (RuntimeError("Connection closed by peer"), False),
    ],
)
def test_faults_of_configuration_disk_and_numbers_are_permanent(error: Exception, permanent: bool) -> None:
    other = rank_error(RuntimeError("[gloo] Connection closed by peer"))
    found = learner_failure(WorkerGroupError("", {0: other, 1: rank_error(error)}))
    assert found.permanent is permanent
    if permanent:
        assert str(error) in found.cause


def test_the_rank_that_died_is_named_and_not_those_that_lost_it() -> None:
    death = WorkerHealthCheckFailedError("health check failed", ActorDiedError())
    lost = rank_error(RuntimeError("[gloo] Connection closed by peer"))
    found = learner_failure(WorkerGroupError("", {0: lost, 1: death}))
    assert found == DIED


def test_a_fenced_learners_error_crosses_processes() -> None:
    copy = pickle.loads(pickle.dumps(FencedError(1, 2)))
    assert (copy.epoch, copy.current) == (1, 2)
