"""The problems of a task that can be prompts: those that cannot are left out, the same in every process."""

from __future__ import annotations

from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.prompts.codec import PromptCodec
from trainer.rollouts.curriculum import StepMix
from trainer.rollouts.problem_order import problem_at
from trainer.tasks import Problem, Task

MOST_LEFT_OUT = 1000
"""problems in a row that may be left out before no usable one is expected any more"""


class UsableProblems:
    """Training problems by ordinal and held-out problems by index.

    A training problem that is too long, or that the chat template refuses, is replaced by the next one of its stream.
    Held-out problems are counted without those. With `task.unusable_prompts=refuse` nothing is replaced.
    """

    def __init__(self, task: Task, config: RunConfig, codec: PromptCodec) -> None:
        self._task, self._config, self._codec = task, config, codec
        self._replaces = config.task.unusable_prompts == "left_out"
        self._heldout: list[int] = []
        """indices in the task of the usable ones among the first `_seen` held-out problems"""
        self._seen = 0
        self.left_out = 0
        """training problems that were replaced"""

    def train(self, ordinal: int, attempt: int = 0, mix: StepMix | None = None) -> Problem:
        """The problem of `problem_at`, or the next usable one.

        Raises ScopeError if `MOST_LEFT_OUT` in a row are not usable.
        """
        problem = problem_at(self._task, self._config, ordinal, attempt, mix)
        if not self._replaces or (why := self._codec.unusable(problem)) is None:
            return problem
        for further in range(1, MOST_LEFT_OUT):
            self.left_out += 1
            other = problem_at(self._task, self._config, ordinal, attempt, mix, further=further)
            if self._codec.unusable(other) is None:
                return other
        raise ScopeError(
            f"{MOST_LEFT_OUT:,} training problems in a row cannot be prompts; the first is {problem.id!r}: {why}"
        )

    def heldout(self, i: int) -> Problem:
        """Usable held-out problem `i`; raises IndexError if there are fewer."""
        return self._task.heldout_problem(self.heldout_indices(i + 1)[i])

    def heldout_indices(self, most: int) -> list[int]:
        """Indices in the task of the first `most` usable held-out problems, of all if there are fewer.

        Raises ScopeError for one that is not usable with `task.unusable_prompts=refuse`.
        """
        while len(self._heldout) < most and self._seen < self._task.heldout_size:
            problem = self._task.heldout_problem(self._seen)
            error = self._codec.unusable(problem)
            if error is None:
                self._heldout.append(self._seen)
            elif not self._replaces:
                raise ScopeError(f"problem {problem.id!r} cannot be a prompt: {error}") from error
            self._seen += 1
        return self._heldout[:most]
