"""Checks of prompts: before a run starts, the task's problems go through the model's tokenizer and chat template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
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
    training = [_Checked(codec, kind, problems) for kind, problems in _training(task)]
    heldout = _Checked(codec, "held-out problems", map(task.heldout_problem, range(task.heldout_size)))
    for checked in (*training, heldout):
        if checked.first and (config.task.unusable_prompts == "refuse" or not checked.usable):
            way_out = "set task.unusable_prompts=left_out" if checked.usable else "use other problems"
            raise ScopeError(f"{checked.summary}. Change what is named, or {way_out}.")
    if heldout.usable < config.evaluation.problems:
        raise ScopeError(
            f"evaluation.problems={config.evaluation.problems} must be at most {heldout.usable}, the number of "
            f"held-out problems that can be prompts: {heldout.summary}."
        )
    if isinstance(task, Environment):
        for i in range(min(REPLIES, task.heldout_size)):
            problem = task.heldout_problem(i)
            codec.encode_reply(problem, "reply", codec.end_tokens[0])
    notes = [f"{checked.summary}; they are left out" for checked in (*training, heldout) if checked.first]
    return notes + surprises(codec, training[0].example)


class _Checked:
    """How many of some problems can be prompts, and why the others cannot. kind: what they are, as text."""

    def __init__(self, codec: PromptCodec, kind: str, problems: Iterator[Problem]) -> None:
        self._kind = kind
        self._reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        """by reason, the first problem with it and the details"""
        self.usable = 0
        self.example: Problem | None = None
        """a usable problem"""
        for problem in problems:
            if (error := codec.unusable(problem)) is None:
                self.usable += 1
                self.example = self.example or problem
                continue
            reason = "too long" if isinstance(error, TooLongError) else str(error)
            self._reasons[reason] += 1
            self.first.setdefault(reason, f"problem {problem.id!r}: {error}")

    @property
    def summary(self) -> str:
        """One sentence on the unusable problems, with the first one for each of the most frequent reasons."""
        left = self._reasons.total()
        reasons = "; ".join(
            f"{count:,} as {self.first[reason]}" for reason, count in self._reasons.most_common(3)
        )
        return f"{left:,} of {self.usable + left:,} {self._kind} cannot be prompts ({reasons})"


def _training(task: Task) -> Iterator[tuple[str, Iterator[Problem]]]:
    """The training problems to check, of each part of a mixture by themselves, with what they are as text."""
    if not isinstance(task, Mixture):
        yield "training problems", _of_stream(task, task.train_problem)
        return
    for part, inner in enumerate(task.parts):
        kind = f"training problems of part {part} of task.mixture"
        yield kind, _of_stream(inner, partial(task.part_problem, part))


def _of_stream(task: Task, at: Callable[[int], Problem]) -> Iterator[Problem]:
    """at: position in the task's training stream → problem."""
    count = min(task.train_size, MOST_LISTED if isinstance(task, Split) else SAMPLE)
    return (at(i * task.train_size // count) for i in range(count))
