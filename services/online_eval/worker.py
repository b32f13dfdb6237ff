"""A generator's part in evaluations during training: it samples held-out problems while it has no group to make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from services.host.tasks import TasksInFlight
from services.online_eval.jobs import CorrectCount, EvaluationLeases, ResponseCounts
from trainer.config import RunConfig
from trainer.rollouts.usable_problems import UsableProblems
from trainer.tasks import Problem

if TYPE_CHECKING:
    from services.inference.sample import Sample

SampleProblem = Callable[[Problem, int, float], Awaitable[tuple[ResponseCounts, Sequence["Sample"]]]]
"""problem, number of responses, temperature → counts of the responses, responses"""
SLOT_DIVISOR = 4
"""Problems in flight are at most a fourth of `generators.groups_in_flight`, so that groups leased later do not wait."""


class EvaluationWorker:
    """Samples the held-out problems that one generator leases. Used on the generator's event loop."""

    def __init__(
        self, leases: EvaluationLeases, config: RunConfig, problems: UsableProblems, sample: SampleProblem
    ) -> None:
        self._leases, self._evaluation, self._problems, self._sample = (
            leases,
            config.evaluation,
            problems,
            sample,
        )
        self._limit = max(1, config.generators.groups_in_flight // SLOT_DIVISOR)
        self._tasks = TasksInFlight()
        self._leased: dict[str, set[int]] = {}
        """problems in flight, by job"""

    @property
    def busy(self) -> bool:
        """Whether problems are in flight."""
        return self._tasks.running > 0

    async def lease(self, loaded_step: int) -> None:
        """Lease and start as many problems as fit, if an evaluation is open. loaded_step: of the policy version."""
        free = self._limit - self._tasks.running
        if free <= 0 or (lease := await self._leases.lease(loaded_step, free)) is None:
            return
        job, problems = lease
        self._leased.setdefault(job, set()).update(problems)
        for index in problems:
            self._tasks.start(self._evaluate(job, index))

    async def renew(self) -> None:
        """Extend the leases of the problems in flight."""
        for job, problems in [(job, sorted(leased)) for job, leased in self._leased.items()]:
            await self._leases.renew(job, problems)

    def raise_failures(self) -> None:
        """Raise what a problem failed with: an error of the verifier or of the engine."""
        self._tasks.raise_failures()

    def cancel(self) -> None:
        """Cancel the problems in flight; their leases expire."""
        self._tasks.cancel()

    async def end(self) -> None:
        """Cancel the problems in flight and wait until they have ended."""
        self._tasks.cancel()
        await self._tasks.wait()

    async def _evaluate(self, job: str, index: int) -> None:
        try:
            problem = self._problems.heldout(index)
            counts, samples = await self._sample(
                problem, self._evaluation.samples, self._evaluation.temperature
            )
            steps = [span.step for sample in samples for span in sample.versions]
            count = CorrectCount(counts.correct, min(steps), max(steps), counts.unscored)
            await self._leases.submit(job, index, count)
        finally:
            self._leased[job].discard(index)
            if not self._leased[job]:
                del self._leased[job]
