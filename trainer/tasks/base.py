"""The interface of a task: a source of problems and the verifier of responses.

Generators and evaluation use tasks only through this interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True)
class Problem:
    """One prompt. `data` is what the verifier needs; plain values only."""

    id: str
    """unique in the task, and the same in every run"""
    prompt: str
    """the user's only message, or the newest one of `messages`"""
    data: Mapping[str, Any] = field(hash=False)
    messages: tuple[Message, ...] = ()
    """the whole conversation that the response continues, for the chat template; empty where it is `prompt` alone"""


@dataclass(frozen=True)
class Verdict:
    """The score of one response. `reward` and every component are in [0, 1]."""

    reward: float
    components: dict[str, float] = field(hash=False)
    """parts of the reward, at most `trainer.roles.MOST_COMPONENTS`"""
    verdict: str
    """a short label, such as "correct" or "wrong value\""""
    unscored: str | None = None
    """why there is no score, such as the error of the verifier; `reward` is then 0, and no statistic counts it"""
    correct: bool = field(default=False, compare=False)
    """whether the response counts as a success; `trainer.tasks.verification` sets it, by `task.positive_from`"""


NO_END = Verdict(0.0, {}, "no end")
"""the verdict on a rollout that is truncated at the length limit, which the verifier does not get"""


def graded(score: float, components: dict[str, float], label: str | None = None) -> Verdict:
    """The verdict of a finite `score`, clipped to [0, 1]. label: default "correct", "wrong" (0) or "partial"."""
    reward = min(max(score, 0.0), 1.0)
    word = "correct" if reward == 1.0 else "wrong" if reward == 0.0 else "partial"
    return Verdict(reward, components, label or word)


@runtime_checkable
class Task(Protocol):
    """A stream of training problems and a disjoint, fixed set of held-out problems."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def train_size(self) -> int:
        """Positions after which the training stream repeats."""
        ...

    @property
    def heldout_size(self) -> int:
        """Number of held-out problems."""
        ...

    def train_problem(self, i: int) -> Problem:
        """The training problem at position `i` >= 0 of an endless stream that repeats after `train_size`."""
        ...

    def heldout_problem(self, i: int) -> Problem:
        """Held-out problem `i`; raises IndexError outside [0, heldout_size)."""
        ...

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Score a finished response: its text without the end token, with other special tokens.

        Must be quick and give a verdict on any text. What it raises means that the response has no score
        (`trainer.tasks.verification`); only ScopeError, for what no response can pass, ends the run.
        """
        ...


@runtime_checkable
class Environment(Task, Protocol):
    """A task with rollouts of several turns: after each response it may reply, and the policy continues.

    Both methods depend on their arguments only, so that a rollout can be sampled again. turns: the policy's responses
    so far, oldest first, without end tokens, never empty; they determine the replies.
    """

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        """The reply to the newest turn, such as the result of a tool; None ends the rollout.

        Must be quick and accept any text, like `verify`. Not called after turn `rollout.max_turns`.
        """
        ...

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """Score a finished rollout, in place of `verify` and with the same requirements."""
        ...


@runtime_checkable
class TaskWithAnswers(Task, Protocol):
    """A task that can extract the answer of a response, for majority votes."""

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The answer, in a form in which equal answers are equal texts; None for a response without one.

        response_text: for a rollout of several turns, its last one.
        """
        ...


@runtime_checkable
class TaskWithNotes(Task, Protocol):
    """A task with notes on its data, such as rows that it skipped."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences to print when a run starts."""
        ...


@runtime_checkable
class TaskWithIdentities(Task, Protocol):
    """A task that can skip training problems that another task of a mixture holds out.

    Problems of two such tasks with equal ids are the same problem.
    """

    @property
    def heldout_ids(self) -> Set[str]:
        """Ids of its own held-out problems."""
        ...

    def leave_out(self, ids: Set[str]) -> None:
        """Skip these training problems. Called at most once, before the first training problem.

        Raises ScopeError if none is left.
        """
        ...


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of the built-in model: one token per entry, in this order."""

    tokens: tuple[str, ...]
    split: Literal["characters", "words"]
    """"characters": each is a token. "words": sequences of letters, sequences of digits, and every other character but
    white space are tokens; decoding joins tokens with spaces"""


@runtime_checkable
class TaskWithSolutions(Task, Protocol):
    """A task that can generate correct responses, for the warm start."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of all prompts and solutions."""
        ...

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """A random correct response."""
        ...
