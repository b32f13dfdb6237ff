"""Schedules evaluations during training, in the driver: opens them, collects their results and records them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from redis import Redis

from services.online_eval.jobs import CorrectCount, EvaluationJobs, Job
from services.run.state import add_evaluation
from trainer.checkpoint.store import Best, CheckpointStore
from trainer.config import RunConfig

if TYPE_CHECKING:
    from services.results.evaluations import Evaluations


class EvaluationScheduler:
    """Opens an evaluation every `evaluation.every_steps` learner steps and collects its results, without waiting.

    An evaluation that is not complete when the next one is due, or when the learner ends, is recorded as incomplete.
    When the learner rolls back to before the evaluated step, the open evaluation is discarded. The checkpoint of the
    evaluated step is kept until the result is known, and is then a candidate for the best checkpoint.
    """

    def __init__(
        self,
        redis: Redis,
        run_id: str,
        config: RunConfig,
        evaluations: Evaluations,
        checkpoints: CheckpointStore,
        step: int,
    ) -> None:
        """step: learner steps that the run has done."""
        self._redis, self._run_id, self._evaluations = redis, run_id, evaluations
        self._config, self._steps = config.evaluation, config.steps
        self._checkpoints, self._best_k = checkpoints, config.best_k
        self._interval = config.checkpoint.every_steps
        self._step = step
        self._job: Job | None = None
        checkpoints.evaluating(None)
        if self._config.every_steps:
            EvaluationJobs(redis, run_id).discard()

    def update(self, redis: Redis, step: int) -> list[str]:
        """Open and collect what is due; returns messages for the terminal. Call it about twice a second.

        step: learner steps done.
        """
        every = self._config.every_steps
        if not every:
            return []
        messages, jobs = [], EvaluationJobs(redis, self._run_id)
        if self._job is not None and step < self._job.step:
            jobs.discard()
            self._job = None
            self._checkpoints.evaluating(None)
        if self._job is not None and jobs.finished() == self._job.problems:
            messages.append(self._collect(redis, self._job))
        if step // every > self._step // every:
            if self._job is not None:
                messages.append(self._collect(redis, self._job))
            # After the last step all generators evaluate together, outside of this schedule.
            self._job = jobs.open(step - step % every, self._config.problems) if step < self._steps else None
            self._checkpoints.evaluating(None if self._job is None else self._job.step)
        self._step = step
        return messages

    def close(self) -> str | None:
        """Collect what the open evaluation has, if one is open; returns a message for the terminal."""
        return None if self._job is None else self._collect(self._redis, self._job)

    def _collect(self, redis: Redis, job: Job) -> str:
        found, self._job = EvaluationJobs(redis, self._run_id).close(), None
        message = self._record(redis, job, found)
        self._checkpoints.evaluating(None)
        return message

    def _record(self, redis: Redis, job: Job, found: Mapping[int, CorrectCount]) -> str:
        missing = job.problems - len(found)
        if not found:
            self._evaluations.add(job.step, [], self._config, missing=missing)
            return f"no generator had time for the evaluation of step {job.step}"
        versions = min(c.oldest for c in found.values()), max(c.newest for c in found.values())
        correct = [count.correct for count in found.values()]
        unscored = sum(count.unscored for count in found.values())
        added = self._evaluations.add(
            job.step, correct, self._config, missing=missing, versions=versions, unscored=unscored
        )
        if missing:
            return f"the evaluation of step {job.step} is incomplete: {len(found)} of {job.problems} problems"
        add_evaluation(redis, self._run_id, job.step, {k: float(added.at(k).mean()) for k in added.ks})
        if versions[1] < job.step + self._interval:
            # Every token was sampled before the next checkpoint was due, so the result belongs to this one.
            self._checkpoints.offer(Best(job.step, self._best_k, float(added.at(self._best_k).mean())))
        later = f" (sampled up to step {versions[1]})" if versions[1] > job.step else ""
        return f"step {job.step}{later}: {self._evaluations.line(job.step)}"
