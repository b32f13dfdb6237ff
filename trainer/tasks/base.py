"""What a task is: a source of prompts and the verifier that scores responses. First box of the picture.

Generators and the evaluation know tasks only through this interface. A new task is one file here and one line
in `trainer.tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Problem:
    """One prompt. `data` is what the verifier needs to score a response, plain values only."""

    id: str
    """unique within the task, the same in every run"""
    prompt: str
    data: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Verdict:
    """The score of one response. `reward` and every component lie in [0, 1]."""

    reward: float
    components: dict[str, float] = field(hash=False)
    """parts of the reward, at most `trainer.rollouts.trajectory.MOST_COMPONENTS`"""
    verdict: str
    """a short phrase for counting, such as "correct" or "wrong value\""""


NO_END = Verdict(0.0, {}, "no end")
"""For a rollout cut off at the length limit: it is not shown to the verifier."""


def graded(score: float, components: dict[str, float], said: str | None = None) -> Verdict:
    """The verdict of a finite `score`, clipped to [0, 1]: "correct" for 1, "wrong" for 0, else "partial", or `said`."""
    reward = min(max(score, 0.0), 1.0)
    word = "correct" if reward == 1.0 else "wrong" if reward == 0.0 else "partial"
    return Verdict(reward, components, said or word)


@runtime_checkable
class Task(Protocol):
    """A stream of training problems and a disjoint, fixed set of held-out ones, set by the configuration."""

    @property
    def name(self) -> str:
        """The registered name."""
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
        """Score a finished response: its text without the end token, other special tokens kept.

        Never takes long, and whatever the text is, it gets a verdict. Raises ScopeError only where nobody can give one,
        such as for a service that does not answer; that ends the run.
        """
        ...


@runtime_checkable
class Environment(Task, Protocol):
    """A task whose rollouts take turns: after each response it may answer, and the policy goes on.

    Both methods are functions of their arguments alone, so that a rollout can be made again. turns: the policy's
    responses so far, each without the end token, oldest first, never empty; what was answered follows from them.
    """

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        """The answer to the newest turn, such as a tool's result; None ends the rollout.

        Quick and for any text, as `verify`. It is not asked after turn `rollout.max_turns`.
        """
        ...

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """Score a rollout that has ended; otherwise as `verify`, which is not called for it."""
        ...


@runtime_checkable
class TaskWithAnswers(Task, Protocol):
    """A task that can say what a response answers, so that a majority of responses can be asked for theirs."""

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The answer in a form in which equal ones are equal texts; None for a response without one.

        response_text: of a rollout of several turns, its last one.
        """
        ...


@runtime_checkable
class TaskWithNotes(Task, Protocol):
    """A task that has something to say of its data: what it left out of it, and what is odd."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for a person who starts a run."""
        ...


@runtime_checkable
class TaskWithIdentities(Task, Protocol):
    """A task that can leave out training problems which another task of a mixture holds out.

    Equal ids of two such tasks are the same problem.
    """

    @property
    def heldout_ids(self) -> Set[str]:
        """Ids of its own held-out problems."""
        ...

    def leave_out(self, ids: Set[str]) -> None:
        """Train on none of these. Asked for at most once, before the first training problem.

        Raises ScopeError where nothing is left.
        """
        ...


@dataclass(frozen=True)
class Vocabulary:
    """What the built-in model reads and writes: one token for each entry, in this order."""

    tokens: tuple[str, ...]
    split: Literal["characters", "words"]
    """"characters": each is a token. "words": runs of letters and runs of digits are tokens, and every other
    character but white space is one; decoding puts one space between tokens"""


@runtime_checkable
class TaskWithSolutions(Task, Protocol):
    """A task that can write correct responses itself, which is what a warm start learns from."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Enough to write every prompt and solution."""
        ...

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """A response that `verify` rewards in full, drawn at random from many."""
        ...
