"""Guessing a hidden number in several turns, with the replies "higher" and "lower".

The smallest example of a task with an environment (`trainer.tasks.base.Environment`). The prompt names the range of the
number, within 1..`task.max_number`; a guess is the last whole number of a turn. The rollout ends after
ceil(log2(size of the range + 1)) turns, in which bisection always finds the number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from trainer.config.task import SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict
from trainer.tasks.split import Split, seeded_rank

_WORDINGS = (
    "I think of a number from {low} to {high}. Guess it.",
    "Guess my number: it is at least {low} and at most {high}.",
    "Find the hidden whole number between {low} and {high}, both included.",
    "A number from {low} to {high} is hidden. Which one is it?",
)
_INSTRUCTION = " Answer with one number; I say whether mine is higher or lower.\n"
_LONGEST_NUMBER = 9


class NumberGuess(Split):
    """The task: every number of every range in several wordings. The seed selects the held-out problems."""

    name = "number_guess"

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError if `task.heldout` leaves no training problem."""
        most = config.max_number
        problems = [
            _problem(wording, low, high, number)
            for wording in range(len(_WORDINGS))
            for low, high in itertools.combinations(range(1, most + 1), 2)
            for number in range(low, high + 1)
        ]
        if config.heldout >= len(problems):
            raise ScopeError(
                f"task.heldout={config.heldout} must be below {len(problems)}, the number of problems of number_guess "
                f"with task.max_number={most}: use --set task.heldout, from 16 to {len(problems) - 1}."
            )
        problems.sort(key=lambda problem: seeded_rank(config.seed, problem.id))
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        """The reply to the newest turn; None if the number is found or no turns are left."""
        guess, number = _guess(turns[-1]), problem.data["number"]
        if guess == number or len(turns) >= problem.data["turns"]:
            return None
        if guess is None:
            return "That is no number.\n"
        return "higher\n" if number > guess else "lower\n"

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """Reward 1 if the guess of the last turn is the number. Verdicts: "correct", "wrong", "no number"."""
        guess = _guess(turns[-1])
        found = guess == problem.data["number"]
        components = {"turns": float(len(turns)) / problem.data["turns"]}
        return Verdict(
            float(found), components, "correct" if found else "no number" if guess is None else "wrong"
        )

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict of a single turn."""
        return self.verify_turns(problem, (response_text,))


def _problem(wording: int, low: int, high: int, number: int) -> Problem:
    return Problem(
        f"{wording}-{low}-{high}-{number}",
        _WORDINGS[wording].format(low=low, high=high) + _INSTRUCTION,
        {"low": low, "high": high, "number": number, "turns": (high - low + 1).bit_length()},
    )


def _guess(turn: str) -> int | None:
    numbers = re.findall(rf"(?<![0-9])[0-9]{{1,{_LONGEST_NUMBER}}}(?![0-9])", turn)
    return int(numbers[-1]) if numbers else None
