"""One engine of an evaluation, in its own process: `python -m services.evaluation.worker SPEC`.

It reads its problems from the file SPEC, samples several at once, and appends a line to its part file as soon as a
problem is finished.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from services.evaluation.plan import EvaluationPlan, TaskPlan
from services.evaluation.results import ProblemResult, Response
from services.generation.group import sampled_tokens
from services.generation.sampling import ProblemSampler
from services.host.priority import lower_priority
from services.host.terminal import write_line
from trainer.errors import ScopeError
from trainer.prompts.codec import PromptCodec
from trainer.tasks import Problem, TaskWithAnswers

if TYPE_CHECKING:
    from services.inference.engine import SamplingEngine
    from services.inference.sample import Sample


class WorkerSpec(msgspec.Struct, frozen=True):
    """The part of an evaluation that one engine does."""

    plan: EvaluationPlan
    share: dict[str, list[int]]
    """label of a task → indices of its problems"""
    part: str
    """path of the part file for its results"""
    engine_seed: int


class _TaskRunner:
    """A task with its prompt encoder and its scorer."""

    def __init__(self, plan: TaskPlan, model: Path) -> None:
        from services.generation.scoring import Scorer

        self.label, self.config, self.task = plan.label, plan.run_config, plan.make()
        codec = PromptCodec.load(model, self.config)
        self.sampler = ProblemSampler(self.config, self.task, codec)
        self.scorer = Scorer(self.config, self.task, codec)

    def answer(self, problem: Problem, sample: Sample, text: str) -> str | None:
        """Return the final answer of a finished response, if the task can read one. text: the whole response."""
        if sample.finish_reason == "length" or not isinstance(self.task, TaskWithAnswers):
            return None
        return self.task.final_answer(problem, sample.turns[-1] if sample.turns else text)


class ProblemQueue:
    """The problems of one engine. Encodes all prompts first, so that one that does not fit is found before sampling."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Raises ScopeError for a task that cannot be made, a prompt that is too long, or a missing end token."""
        self._plan, self._part = spec.plan, Path(spec.part)
        model = Path(spec.plan.model)
        self.tasks = [_TaskRunner(task, model) for task in spec.plan.tasks if spec.share.get(task.label)]
        self._waiting = [
            (task, index, task.task.heldout_problem(index))
            for task in self.tasks
            for index in spec.share[task.label]
        ]
        for task, _, problem in self._waiting:
            task.sampler.prompt(problem)

    async def run(self, engine: SamplingEngine) -> None:
        """Sample and score every problem, and write the results."""
        gate = asyncio.Semaphore(self._plan.engine.groups_in_flight)
        with self._part.open("ab") as file:

            async def one(task: _TaskRunner, index: int, problem: Problem) -> None:
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

    async def _responses(self, engine: SamplingEngine, task: _TaskRunner, problem: Problem) -> list[Response]:
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
                unscored=verdict.unscored,
                success=verdict.correct,
            )
            for sample, verdict, text in zip(samples, verdicts, texts, strict=True)
        ]


async def work(spec: WorkerSpec) -> None:
    """Evaluate all problems of `spec` with an engine in this process."""
    from services.inference.engine import SamplingEngine
    from trainer.rollouts.trajectory import PolicyVersion

    problems = ProblemQueue(spec)
    engine = await SamplingEngine.start(
        Path(spec.plan.model),
        spec.plan.engine,
        role="base",
        max_length=max(task.config.model.max_length for task in problems.tasks),
        seed=spec.engine_seed,
        version=PolicyVersion(0, 0),
    )
    try:
        await problems.run(engine)
    finally:
        engine.shutdown()


def main() -> int:
    """Run the worker; returns exit status 2 for an error that the user can fix, and 1 for any other.

    One line on stderr that begins with `scope: ` says why. What vLLM writes while the process ends comes after it.
    """
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerSpec)
    lower_priority()
    try:
        asyncio.run(work(spec))
    except Exception as error:
        errors = _single(error)
        fault = next((found for found in errors if isinstance(found, ScopeError)), None)
        if fault is not None:
            write_line(f"scope: {fault}", sys.stderr)
            return 2
        traceback.print_exc()
        write_line(f"scope: {type(errors[0]).__name__}: {errors[0]}", sys.stderr)
        return 1
    return 0


def _single(error: Exception) -> list[Exception]:
    """The errors of a group, or the error itself."""
    if isinstance(error, ExceptionGroup):
        return [single for inner in error.exceptions for single in _single(inner)]
    return [error]


if __name__ == "__main__":
    sys.exit(main())
