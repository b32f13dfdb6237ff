"""A generator's part in evaluations during training: held-out problems, while there is no group to make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from services.online_eval.jobs import CorrectCount, EvaluationLeases
from trainer.config import RunConfig
from trainer.tasks import Problem, Task

if TYPE_CHECKING:
    from services.inference.sample import Sample

Count = Callable[[Problem, int, float], Awaitable[tuple[int, Sequence["Sample"]]]]
"""problem, responses, temperature → correct ones, and all of them"""
SHARE_OF_ROOM = 4
"""problems at once are a fourth of `generators.groups_in_flight`: a group that comes finds an engine with room"""


class EvaluationWorker:
    """Problems that one generator works on, beside its groups. Used on its event loop."""

    def __init__(self, work: EvaluationLeases, config: RunConfig, task: Task, count: Count) -> None:
        self._work, self._evaluation, self._task, self._count = work, config.evaluation, task, count
        self._most = max(1, config.generators.groups_in_flight // SHARE_OF_ROOM)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[str, set[int]] = {}

    @property
    def busy(self) -> bool:
        """Whether problems are in flight."""
        return any(not task.done() for task in self._tasks)

    async def take(self, loaded_step: int) -> None:
        """Begin with as many problems as there is room for, if an evaluation is open for the loaded version."""
        room = self._most - sum(not task.done() for task in self._tasks)
        if room <= 0 or (lease := await self._work.lease(loaded_step, room)) is None:
            return
        job, problems = lease
        self._held.setdefault(job, set()).update(problems)
        self._tasks |= {asyncio.create_task(self._one(job, index)) for index in problems}

    async def renew(self) -> None:
        """Keep what is in flight."""
        for job, problems in [(job, sorted(held)) for job, held in self._held.items()]:
            await self._work.renew(job, problems)

    def raise_failures(self) -> None:
        """Raise what a problem failed with: a verifier that gives no verdict, or the engine."""
        for task in [t for t in self._tasks if t.done()]:
            self._tasks.discard(task)
            task.result()

    def cancel(self) -> None:
        """Give up what is in flight; its leases expire."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> None:
        """Cancel, and wait for it."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, job: str, index: int) -> None:
        try:
            problem = self._task.heldout_problem(index)
            correct, samples = await self._count(
                problem, self._evaluation.samples, self._evaluation.temperature
            )
            steps = [span.step for sample in samples for span in sample.versions]
            await self._work.hand_in(job, index, CorrectCount(correct, min(steps), max(steps)))
        finally:
            self._held[job].discard(index)
            if not self._held[job]:
                del self._held[job]
