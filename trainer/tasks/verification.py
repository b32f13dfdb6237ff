"""The verdicts of a task's verifier, with the policy `task.verifier.on_failure` where it gives no score.

Everything that scores rollouts uses this: generators, in-process runs, `scope eval` and the checks before a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.config.task import SingleTaskConfig, TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Environment, Problem, Task, Verdict
from trainer.tasks.failure import (
    LONGEST_LABEL,
    NoScore,
    as_number,
    bounded_components,
    cause_of,
    one_line,
)
from trainer.tasks.mixture import Mixture

TRIAL_RESPONSE = "I do not know. <answer>unknown</answer> \\boxed{unknown}"
"""a wrong response that every verifier of the project takes for an answer"""


TOLERANCE = 1e-6
"""relative, of rewards that are compared with `task.positive_from`, since rewards may be sums of floats"""


class Verification:
    """The verifier of `task`. config: of the task; in a mixture the block of the problem's part is in force."""

    def __init__(self, task: Task, config: TaskConfig) -> None:
        self._task, self._config = task, config

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict on a finished response. Raises ScopeError where no later response can have one either."""
        return self._settled(problem, self._attempt(problem, (response_text,), whole=False))

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """The verdict on a finished rollout of an `Environment`, which may have a single turn; raises like `verify`."""
        return self._settled(problem, self._attempt(problem, turns, whole=True))

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Verdict | None:
        """The reply of an `Environment`, None at the rollout's end; a verdict if it fails, which ends the rollout."""
        task = self._task
        if not isinstance(task, Environment):
            return None
        try:
            reply = task.reply(problem, turns)
        except ScopeError:
            raise
        except (Exception, SystemExit) as error:
            return self._without_score(problem, _as_no_score(error))
        if reply is None or isinstance(reply, str):
            return None if reply is None else reply.encode("utf-8", "replace").decode()
        fault = NoScore(f"invalid reply: it must be a text or None, not {type(reply).__name__}")
        return self._without_score(problem, fault)

    def trial(self) -> list[str]:
        """Score a wrong response to a training problem of each part; returns a sentence on each that has no score.

        Raises like `verify`.
        """
        task = self._task
        if isinstance(task, Mixture):
            problems = {
                f"part {i} of task.mixture: ": task.part_problem(i, 0)
                for i in range(len(self._config.mixture))
            }
        else:
            problems = {"": task.train_problem(0)}
        notes = []
        for where, problem in problems.items():
            fault = self._attempt(problem, (TRIAL_RESPONSE,), whole=True)
            if isinstance(fault, NoScore) and not fault.abstains:
                self._settled(problem, fault)
                notes.append(f"{where}the verifier gives no score to a trial response: {fault}")
        return notes

    def _attempt(self, problem: Problem, turns: Sequence[str], *, whole: bool) -> Verdict | NoScore:
        """The verdict of the task, on the whole rollout or on its last turn; NoScore where it fails."""
        task = self._task
        try:
            if whole and isinstance(task, Environment):
                return _checked(task.verify_turns(problem, turns))
            return _checked(task.verify(problem, turns[-1]))
        except ScopeError:
            raise
        # SystemExit: a verifier that calls sys.exit ends neither a thread nor the process.
        except (Exception, SystemExit) as error:
            return _as_no_score(error)

    def _settled(self, problem: Problem, found: Verdict | NoScore) -> Verdict:
        if not isinstance(found, Verdict):
            return self._without_score(problem, found)
        # A relative tolerance: an absolute one would make reward 0 a success by a small threshold.
        least = self._task_config(problem).positive_from * (1 - TOLERANCE)
        return replace(found, correct=found.reward >= least)

    def _without_score(self, problem: Problem, fault: NoScore) -> Verdict:
        cause = one_line(str(fault)) or type(fault).__name__
        policy = self._task_config(problem).verifier.on_failure
        if fault.abstains or policy == "left_out":
            return Verdict(0.0, {}, cause, unscored=cause)
        if policy == "zero":
            return Verdict(0.0, {}, cause)
        raise ScopeError(
            f"the verifier gives no score for a response to problem {problem.id!r}: {cause}. "
            "task.verifier.on_failure='end' ends the run; 'left_out' leaves such rollouts out, 'zero' gives reward 0."
        ) from fault

    def _task_config(self, problem: Problem) -> SingleTaskConfig:
        parts = self._config.mixture
        return parts[problem.data["part"]] if parts else self._config


def _as_no_score(error: BaseException) -> NoScore:
    if isinstance(error, NoScore):
        return error
    fault = NoScore(cause_of(error))
    fault.__cause__ = error
    return fault


def _checked(found: object) -> Verdict:
    """The verdict as a rollout carries it: finite numbers in [0, 1], short texts. Raises NoScore."""
    if not isinstance(found, Verdict):
        raise NoScore(f"not a Verdict: the task gives {type(found).__name__}")
    if found.unscored is not None:
        raise NoScore(str(found.unscored), abstains=True)
    return Verdict(
        _clipped(found.reward),
        bounded_components(found.components),
        one_line(str(found.verdict), LONGEST_LABEL),
    )


def _clipped(reward: object) -> float:
    try:
        return min(max(as_number(reward), 0.0), 1.0)
    except (TypeError, ValueError) as error:
        raise NoScore(f"invalid reward: it {error}") from error
