"""Evaluations during training, as the driver sees them: when one is due, when it is complete, what comes of it."""

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
    """Opens an evaluation every `evaluation.every_steps` and takes its results in; never waits for one.

    One that is not complete when the next is due, or when the learner ends, is kept as incomplete. A learner that goes
    back to its checkpoint takes the open one back with it. The checkpoint of the evaluated step stays meanwhile, and is
    offered as the best.
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
        """step: learner steps done, from which the run goes on."""
        self._redis, self._run_id, self._evaluations = redis, run_id, evaluations
        self._config, self._steps = config.evaluation, config.steps
        self._checkpoints, self._best_k = checkpoints, config.best_k
        self._interval = config.checkpoint.every_steps
        self._step = step
        self._job: Job | None = None
        checkpoints.evaluating(None)
        if self._config.every_steps:
            EvaluationJobs(redis, run_id).drop()

    def look(self, redis: Redis, step: int) -> list[str]:
        """To be called with the learner steps done, about twice a second; sentences about what happened."""
        every = self._config.every_steps
        if not every:
            return []
        notes, desk = [], EvaluationJobs(redis, self._run_id)
        if self._job is not None and step < self._job.step:
            desk.drop()
            self._job = None
            self._checkpoints.evaluating(None)
        if self._job is not None and desk.done() == self._job.problems:
            notes.append(self._take_in(redis, self._job))
        if step // every > self._step // every:
            if self._job is not None:
                notes.append(self._take_in(redis, self._job))
            # The last step has an evaluation of its own, by all generators.
            self._job = desk.open(step - step % every, self._config.problems) if step < self._steps else None
            self._checkpoints.evaluating(None if self._job is None else self._job.step)
        self._step = step
        return notes

    def end(self) -> str | None:
        """Take in what there is; a sentence about it."""
        return None if self._job is None else self._take_in(self._redis, self._job)

    def _take_in(self, redis: Redis, job: Job) -> str:
        found, self._job = EvaluationJobs(redis, self._run_id).close(), None
        note = self._judge(redis, job, found)
        self._checkpoints.evaluating(None)
        return note

    def _judge(self, redis: Redis, job: Job, found: Mapping[int, CorrectCount]) -> str:
        missing = job.problems - len(found)
        if not found:
            self._evaluations.add(job.step, [], self._config, missing=missing)
            return f"no generator had time for the evaluation of step {job.step}"
        versions = min(c.oldest for c in found.values()), max(c.newest for c in found.values())
        correct = [counted.correct for counted in found.values()]
        added = self._evaluations.add(job.step, correct, self._config, missing=missing, versions=versions)
        if missing:
            return f"the evaluation of step {job.step} is incomplete: {len(found)} of {job.problems} problems"
        add_evaluation(redis, self._run_id, job.step, {k: float(added.at(k).mean()) for k in added.ks})
        if versions[1] < job.step + self._interval:
            # Sampled before the next checkpoint was due.
            self._checkpoints.offer(Best(job.step, self._best_k, float(added.at(self._best_k).mean())))
        later = f" (sampled up to step {versions[1]})" if versions[1] > job.step else ""
        return f"step {job.step}{later}: {self._evaluations.line(job.step)}"
