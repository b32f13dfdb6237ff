"""Runs the units of one trial, one after another, and reports its metric as it becomes known."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from services.compare import full_system
from services.compare.plan import Plan, Unit
from services.compare.pool import POLL_SECONDS, STOP_SECONDS, Job
from services.compare.request import EVALUATIONS_FILE
from services.compare.results import EvaluationPoint, read_result
from services.compare.run import is_finished, make_job, start_in_process, unit_directory
from services.compare.statistics import at_end
from services.host.children import ChildProcess, last_line
from services.records.jsonl import read_lines
from services.results.evaluations import EVALUATIONS, Evaluations
from trainer.errors import ScopeError
from trainer.pass_at_k import pass_at_k


def start_job(job: Job) -> ChildProcess:
    """Start the process of one unit."""
    return job.start()


class TrialRun:
    """The run of a trial. Its processes are started from the calling thread and end with it."""

    def __init__(self, plan: Plan, k: int, start: Callable[[Job], ChildProcess] = start_job) -> None:
        """k: of the metric, pass@k."""
        self._plan, self._k, self._start = plan, k, start
        self._child: ChildProcess | None = None

    def reports(self) -> Iterator[tuple[int, float]]:
        """Yield (learner step, metric): of the first seed while it trains, at the end the mean over seeds.

        Finished units are not run again. Raises ScopeError when a unit fails.
        """
        first, *others = self._plan.units
        yield from self._of_first(first)
        for unit in others:
            if not is_finished(self._plan, unit):
                for _ in self._run(unit):
                    pass
        results = [read_result(unit_directory(self._plan, unit)) for unit in self._plan.units]
        yield first.config.steps, float(np.mean([at_end(result, self._k).mean() for result in results]))

    def stop(self) -> None:
        """End the running process, if any: one in one process at once, a full run after its step."""
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if child.poll() is None:
            child.kill()
            child.wait()

    def _of_first(self, unit: Unit) -> Iterator[tuple[int, float]]:
        last = 0
        if not is_finished(self._plan, unit):
            for _ in self._run(unit):
                for point in self._after(unit, last):
                    last = point.step
                    yield last, self._metric(point)
        # The unit may end between two looks at its evaluations.
        for point in self._after(unit, last):
            yield point.step, self._metric(point)

    def _after(self, unit: Unit, step: int) -> list[EvaluationPoint]:
        return [point for point in between(self._plan, unit) if point.step > step]

    def _run(self, unit: Unit) -> Iterator[None]:
        """Run a unit to its end; yields while it runs."""
        job = make_job(self._plan, unit, start_in_process)
        self._child = self._start(job)
        while (status := self._child.poll()) is None:
            yield
            time.sleep(POLL_SECONDS)
        self._child = None
        if status:
            raise ScopeError(_failure(job, status))
        job.finish()

    def _metric(self, point: EvaluationPoint) -> float:
        return float(pass_at_k(point.samples, point.correct, self._k).mean())


def evaluations(plan: Plan, unit: Unit) -> Sequence[EvaluationPoint]:
    """Read the evaluations of a unit so far, in order of steps, whether or not it has ended."""
    if plan.source == "full system":
        path = full_system.run_directory(plan, unit) / EVALUATIONS
        return [
            EvaluationPoint(step=e.step, samples=e.samples, correct=e.correct, seconds=None)
            for e in sorted(Evaluations(path).all, key=lambda e: e.step)
        ]
    path = unit_directory(plan, unit) / EVALUATIONS_FILE
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=EvaluationPoint) for line in read_lines(path)]


def between(plan: Plan, unit: Unit) -> list[EvaluationPoint]:
    """Return the evaluations of a unit so far, without the first and the last of its training."""
    return [point for point in evaluations(plan, unit) if 0 < point.step < unit.config.steps]


def _failure(job: Job, status: int) -> str:
    return f"{job.name}: exit status {status}: {last_line(job.log)} (log: {job.log})"
