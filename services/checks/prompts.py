"""Checks of prompts: before a run starts, the task's problems go through the model's tokenizer and chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.prompts.codec import PromptCodec, TooLongError
from trainer.prompts.conversation import conversation, plain_text
from trainer.prompts.surprises import surprises
from trainer.tasks import Environment, Problem, Task
from trainer.tasks.mixture import Mixture
from trainer.tasks.split import Split

MOST_LISTED = 50_000
"""training problems of one list that are checked; of a longer one, as many that lie equally far apart"""
SAMPLE = 256
"""problems that are checked of a task that generates them; others are checked when their turn comes"""
REPLIES = 8
"""problems whose conversation is continued by a reply, for a task with an environment"""


def check_plain_prompts(task: Task, config: RunConfig) -> list[str]:
    """Raise ScopeError if problems need a chat template, which the built-in model does not have."""
    for i in range(min(REPLIES, task.heldout_size)):
        problem = task.heldout_problem(i)
        try:
            plain_text(conversation(problem, config.model))
        except ScopeError as error:
            raise ScopeError(f"problem {problem.id!r} cannot be a prompt: {error}") from error
    return []


def check_prompts(task: Task, config: RunConfig, directory: Path) -> list[str]:
    """Encode the task's prompts with the model in `directory`; returns what was left out and what is unusual.

    Raises ScopeError if a prompt is unusable and `task.unusable_prompts=refuse`, if no training problem or fewer than
    `evaluation.problems` held-out problems are usable, or if the chat template cannot continue a conversation that
    the task's environment replies to.
    """
    codec = PromptCodec.load(directory, config)
    training = _Checked("training", codec, _training(task))
    heldout = _Checked("held-out", codec, map(task.heldout_problem, range(task.heldout_size)))
    for checked in (training, heldout):
        if checked.first and (config.task.unusable_prompts == "refuse" or not checked.usable):
            raise ScopeError(
                f"{checked.summary}. Change what is named, or "
                + ("set task.unusable_prompts=left_out" if checked.usable else "use other problems")
                + "."
            )
    if heldout.usable < config.evaluation.problems:
        raise ScopeError(
            f"evaluation.problems={config.evaluation.problems} must be at most {heldout.usable}, the number of "
            f"held-out problems that can be prompts: {heldout.summary}."
        )
    if isinstance(task, Environment):
        for i in range(min(REPLIES, task.heldout_size)):
            problem = task.heldout_problem(i)
            codec.encode_reply(problem, "reply", codec.end_tokens[0])
    notes = [f"{checked.summary}; left out" for checked in (training, heldout) if checked.first]
    return notes + surprises(codec, training.usable_problem)


class _Checked:
    """How many of some problems can be prompts, and why the others cannot."""

    def __init__(self, kind: str, codec: PromptCodec, problems: Iterator[Problem]) -> None:
        self._kind = kind
        self._reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        """by reason, the first problem with it, as text"""
        self.usable = 0
        self.usable_problem: Problem | None = None
        for problem in problems:
            if (error := codec.unusable(problem)) is None:
                self.usable += 1
                self.usable_problem = self.usable_problem or problem
                continue
            reason = "too long" if isinstance(error, TooLongError) else str(error)
            self._reasons[reason] += 1
            self.first.setdefault(reason, f"problem {problem.id!r}: {error}")

    @property
    def summary(self) -> str:
        """One sentence on the unusable problems, with the first of every kind."""
        total, left = self.usable + self._reasons.total(), self._reasons.total()
        reasons = "; ".join(
            f"{count:,} like {self.first[reason]}" for reason, count in self._reasons.most_common(3)
        )
        return f"{left:,} of {total:,} {self._kind} problems cannot be prompts: {reasons}"


def _training(task: Task) -> Iterator[Problem]:
    """The training problems to check, part by part."""
    if isinstance(task, Mixture):
        for part, inner in enumerate(task.parts):
            yield from _of_stream(inner, lambda i, part=part: task.part_problem(part, i))
    else:
        yield from _of_stream(task, task.train_problem)


def _of_stream(task: Task, at: Callable[[int], Problem]) -> Iterator[Problem]:
    """at: position in the task's training stream → problem."""
    count = min(task.train_size, MOST_LISTED if isinstance(task, Split) else SAMPLE)
    return (at(i * task.train_size // count) for i in range(count))
