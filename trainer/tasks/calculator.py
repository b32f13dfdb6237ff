"""Arithmetic with large numbers and a calculator: the example of a task with a tool.

The reply to a turn that ends with <calc>EXPRESSION</calc> is <result>VALUE</result>. A turn without a call ends the
rollout, and its last whole number is the answer. The tool reads whole numbers, + - * and parentheses with the parser of
Countdown, not with `eval`, up to `LONGEST_EXPRESSION` characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.config.task import SingleTaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict
from trainer.tasks.countdown.task import MalformedError, evaluate_tokens
from trainer.tasks.split import Split, seeded_rank

PROBLEMS = 8192
"""number of problems drawn; duplicates are removed"""
LONGEST_EXPRESSION = 64
"""characters; also bounds the digits of the value and the recursion of the parser"""
_LONGEST_NUMBER = 12
_FORMS = (
    ("Multiply {0} by {1}, then add {2}.", "{0}*{1}+{2}"),
    ("Subtract {1} from {0}, and multiply the difference by {2}.", "({0}-{1})*{2}"),
    ("Add {0} and {1}, and multiply the sum by {2}.", "({0}+{1})*{2}"),
    ("Take {0} times {1} from {2} times {3}.", "{2}*{3}-{0}*{1}"),
)
_INSTRUCTION = (
    " <calc>2*(3+4)</calc> asks a calculator and ends your turn; it answers <result>14</result>. "
    "Without a call, the last number that you write is your answer.\n"
)
_CALL = re.compile(r"<calc>([^<>]*)</calc>")


class Calculator(Split):
    """The task. Numbers have three digits and are determined by the seed."""

    name = "calculator"

    def __init__(self, config: SingleTaskConfig) -> None:
        """Raises ScopeError if `task.heldout` leaves no training problem."""
        drawn = [_problem(seeded_rank(config.seed, f"calculator {i}")) for i in range(PROBLEMS)]
        problems = list({problem.id: problem for problem in drawn}.values())
        if config.heldout >= len(problems):
            raise ScopeError(
                f"task.heldout={config.heldout} must be below {len(problems)}, the number of problems of calculator: "
                f"use --set task.heldout, from 16 to {len(problems) - 1}."
            )
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        """The result of the newest turn's last call, or an error message; None for a turn without a call."""
        calls = _CALL.findall(turns[-1])
        if not calls:
            return None
        value = compute(calls[-1])
        return "<result>cannot be read</result>\n" if value is None else f"<result>{value}</result>\n"

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        """Reward 1 if the answer in the last turn is the value. Verdicts: "correct", "wrong", "no answer"."""
        calls = [call for turn in turns for call in _CALL.findall(turn)]
        components = {"tool": float(any(compute(call) is not None for call in calls))}
        answer = self.final_answer(problem, turns[-1])
        right = answer == str(problem.data["value"])
        word = "no answer" if answer is None else "correct" if right else "wrong"
        return Verdict(float(right), components, word)

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """The verdict of a single turn."""
        return self.verify_turns(problem, (response_text,))

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The last whole number of the last turn; None if it has none, or has a call."""
        numbers = re.findall(rf"(?<![0-9])-?[0-9]{{1,{_LONGEST_NUMBER}}}(?![0-9])", response_text)
        return str(int(numbers[-1])) if numbers and not _CALL.search(response_text) else None


def compute(expression: str) -> int | None:
    """The value of an expression; None if the tool cannot read it."""
    if len(expression) > LONGEST_EXPRESSION:
        return None
    try:
        return evaluate_tokens(re.findall(r"[0-9]+|\S", expression))[0]
    except MalformedError:
        return None


def _problem(digest: bytes) -> Problem:
    """The problem determined by digest, bytes[16]."""
    numbers = [100 + int.from_bytes(digest[i : i + 2]) % 900 for i in range(0, 8, 2)]
    text, form = _FORMS[digest[8] % len(_FORMS)]
    expression = form.format(*numbers)
    return Problem(expression, text.format(*numbers) + _INSTRUCTION, {"value": compute(expression)})
