"""A generator's part in evaluations during training: it samples held-out problems while it has no group to make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from services.online_eval.jobs import CorrectCount, EvaluationLeases
from trainer.config import RunConfig
from trainer.tasks import Problem, Task

if TYPE_CHECKING:
    from services.inference.sample import Sample

SampleProblem = Callable[[Problem, int, float], Awaitable[tuple[int, Sequence["Sample"]]]]
"""problem, number of responses, temperature → number of correct responses, responses"""
SLOT_DIVISOR = 4
"""Problems in flight are at most a fourth of `generators.groups_in_flight`, so that groups leased later do not wait."""


class EvaluationWorker:
    """Samples the held-out problems that one generator leases. Used on the generator's event loop."""

    def __init__(
        self, leases: EvaluationLeases, config: RunConfig, task: Task, sample: SampleProblem
    ) -> None:
        self._leases, self._evaluation, self._task, self._sample = leases, config.evaluation, task, sample
        self._limit = max(1, config.generators.groups_in_flight // SLOT_DIVISOR)
        self._tasks: set[asyncio.Task[None]] = set()
        self._leased: dict[str, set[int]] = {}
        """problems in flight, by job"""

    @property
    def busy(self) -> bool:
        """Whether problems are in flight."""
        return any(not task.done() for task in self._tasks)

    async def lease(self, loaded_step: int) -> None:
        """Lease and start as many problems as fit, if an evaluation is open. loaded_step: of the policy version."""
        free = self._limit - sum(not task.done() for task in self._tasks)
        if free <= 0 or (lease := await self._leases.lease(loaded_step, free)) is None:
            return
        job, problems = lease
        self._leased.setdefault(job, set()).update(problems)
        self._tasks |= {asyncio.create_task(self._evaluate(job, index)) for index in problems}

    async def renew(self) -> None:
        """Extend the leases of the problems in flight."""
        for job, problems in [(job, sorted(leased)) for job, leased in self._leased.items()]:
            await self._leases.renew(job, problems)

    def raise_failures(self) -> None:
        """Raise what a problem failed with: an error of the verifier or of the engine."""
        for task in [t for t in self._tasks if t.done()]:
            self._tasks.discard(task)
            task.result()

    def cancel(self) -> None:
        """Cancel the problems in flight; their leases expire."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> None:
        """Cancel the problems in flight and wait until they have ended."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _evaluate(self, job: str, index: int) -> None:
        try:
            problem = self._task.heldout_problem(index)
            correct, samples = await self._sample(
                problem, self._evaluation.samples, self._evaluation.temperature
            )
            steps = [span.step for sample in samples for span in sample.versions]
            await self._leases.submit(job, index, CorrectCount(correct, min(steps), max(steps)))
        finally:
            self._leased[job].discard(index)
            if not self._leased[job]:
                del self._leased[job]
