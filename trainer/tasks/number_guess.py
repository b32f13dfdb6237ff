"""Guess a hidden number in several turns: the environment answers each guess with "higher" or "lower".

The worked example of a task with an environment (`trainer.tasks.base.Environment`). The number lies in
1..`task.max_number`; a guess is the last whole number of a turn. Bisection finds it within
ceil(log2(max_number + 1)) turns, which is also when the environment gives up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.config_task import SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict
from trainer.tasks.split import Split, seeded_rank

_WORDINGS = (
    "I think of a number from 1 to {most}. Guess it.",
    "Guess my number: it is at least 1 and at most {most}.",
    "Find the hidden whole number between 1 and {most}, both included.",
    "A number from 1 to {most} is hidden. Which one is it?",
)
_LONGEST_NUMBER = 9


class NumberGuess(Split):
    """The task. Problems are the numbers in each of a few wordings; held-out ones are chosen by the seed."""

    name = "number_guess"

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError where `task.heldout` leaves nothing to train on."""
        most = config.max_number
        instruction = " Answer with one number; I say whether mine is higher or lower.\n"
        problems = [
            Problem(
                f"{wording}-{number}",
                text.format(most=most) + instruction,
                {"number": number, "turns": most.bit_length()},
            )
            for wording, text in enumerate(_WORDINGS)
            for number in range(1, most + 1)
        ]
        if config.heldout >= len(problems):
            raise ScopeError(
                f"task.heldout={config.heldout} must be below {len(problems)}, the number of problems of number_guess "
                f"with task.max_number={most}."
            )
        problems.sort(key=lambda problem: seeded_rank(config.seed, problem.id))
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        """What the environment says to the newest turn; None when the number was found or the turns are used up."""
        guess, number = _guess(turns[-1]), problem.data["number"]
        if guess == number or len(turns) >= problem.data["turns"]:
            return None
        if guess is None:
            return "That is no number.\n"
        return "higher\n" if number > guess else "lower\n"

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """Right when the last turn has the number."""
        guess = _guess(turns[-1])
        found = guess == problem.data["number"]
        components = {"turns": float(len(turns)) / problem.data["turns"]}
        return Verdict(
            float(found), components, "correct" if found else "no number" if guess is None else "wrong"
        )

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict of a single turn."""
        return self.verify_turns(problem, (response_text,))


def _guess(turn: str) -> int | None:
    numbers = re.findall(rf"(?<![0-9])[0-9]{{1,{_LONGEST_NUMBER}}}(?![0-9])", turn)
    return int(numbers[-1]) if numbers else None
