"""One engine of an evaluation, as a process: `python -m services.evaluation.worker SPEC`.

Reads its share from the file SPEC, samples as many problems at once as an engine takes, and appends a line to its
part file as soon as a problem is done.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from services.evaluation.plan import EvaluationPlan, TaskPlan
from services.evaluation.results import ProblemResult, Response
from services.generation.group import sampled_tokens
from services.generation.sampling import ProblemSampler
from services.host.priority import yield_to_others
from trainer.errors import ScopeError
from trainer.tasks import Problem, TaskWithAnswers

if TYPE_CHECKING:
    from services.inference.engine import SamplingEngine
    from services.inference.sample import Sample


class WorkerSpec(msgspec.Struct, frozen=True):
    """What one engine does."""

    plan: EvaluationPlan
    share: dict[str, list[int]]
    """label of a task → indices of its problems"""
    part: str
    """the file for results"""
    engine_seed: int


class _TaskAtWork:
    """A task, what samples its problems, and the verifier beside the engine."""

    def __init__(self, plan: TaskPlan, tokenizer: Any) -> None:
        from services.generation.scoring import Scorer

        self.label, self.config, self.task = plan.label, plan.run_config, plan.make()
        self.sampler = ProblemSampler(self.config, self.task, tokenizer)
        self.scorer = Scorer(self.config, self.task, tokenizer)

    def answer(self, problem: Problem, sample: Sample, text: str) -> str | None:
        """What a finished response answers, if the task can say. text: of the whole response."""
        if sample.finish_reason == "length" or not isinstance(self.task, TaskWithAnswers):
            return None
        return self.task.final_answer(problem, sample.turns[-1] if sample.turns else text)


class Sampler:
    """One engine's share, ready: every prompt is encoded, so that one that does not fit is seen before it starts."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Raises ScopeError where a task cannot be made, a prompt leaves no room, or no token ends a response."""
        from transformers import AutoTokenizer

        self._plan, self._part = spec.plan, Path(spec.part)
        tokenizer: Any = AutoTokenizer.from_pretrained(spec.plan.model)
        self.tasks = [_TaskAtWork(task, tokenizer) for task in spec.plan.tasks if spec.share.get(task.label)]
        self._waiting = [
            (task, index, task.task.heldout_problem(index))
            for task in self.tasks
            for index in spec.share[task.label]
        ]
        for task, _, problem in self._waiting:
            task.sampler.prompt(problem)

    async def run(self, engine: SamplingEngine) -> None:
        """Answer every problem of the share."""
        gate = asyncio.Semaphore(self._plan.engine.groups_in_flight)
        with self._part.open("ab") as file:

            async def one(task: _TaskAtWork, index: int, problem: Problem) -> None:
                async with gate:
                    responses = await self._responses(engine, task, problem)
                result = ProblemResult(
                    task=task.label,
                    index=index,
                    problem_id=problem.id,
                    prompt=problem.prompt,
                    responses=responses,
                )
                file.write(msgspec.json.encode(result) + b"\n")
                file.flush()

            async with asyncio.TaskGroup() as group:
                for entry in self._waiting:
                    group.create_task(one(*entry))

    async def _responses(self, engine: SamplingEngine, task: _TaskAtWork, problem: Problem) -> list[Response]:
        sampling = self._plan.sampling
        samples = await task.sampler.sample(
            engine,
            problem,
            task.sampler.prompt(problem),
            samples=sampling.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        verdicts = await task.scorer.verdicts(problem, samples)
        texts = [task.scorer.text(sample) for sample in samples]
        return [
            Response(
                text=text,
                tokens=sampled_tokens([sample]),
                finish=sample.finish_reason,
                reward=verdict.reward,
                verdict=verdict.verdict,
                answer=task.answer(problem, sample, text),
            )
            for sample, verdict, text in zip(samples, verdicts, texts, strict=True)
        ]


async def work(spec: WorkerSpec) -> None:
    """Do the whole share with an engine of this process."""
    from services.inference.engine import SamplingEngine
    from trainer.rollouts.trajectory import PolicyVersion

    sampler = Sampler(spec)
    engine = await SamplingEngine.start(
        Path(spec.plan.model),
        spec.plan.engine,
        role="base",
        max_length=max(task.config.model.max_length for task in sampler.tasks),
        seed=spec.engine_seed,
        version=PolicyVersion(0, 0),
    )
    try:
        await sampler.run(engine)
    finally:
        engine.shutdown()


def main() -> int:
    """Exit status 2 with one sentence for a fault that the user can mend."""
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerSpec)
    yield_to_others()
    try:
        asyncio.run(work(spec))
    except (ScopeError, ExceptionGroup) as error:
        if (fault := _fault(error)) is None:
            raise
        print(f"scope: {fault}", file=sys.stderr)
        return 2
    return 0


def _fault(error: Exception) -> ScopeError | None:
    """The first fault that a user can mend; None where there is none."""
    if isinstance(error, ExceptionGroup):
        return next(filter(None, map(_fault, error.exceptions)), None)
    return error if isinstance(error, ScopeError) else None


if __name__ == "__main__":
    sys.exit(main())
