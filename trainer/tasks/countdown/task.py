"""Countdown, the built-in task: reach a target from three given numbers with +, - and *.

The problems are all (numbers, target) with numbers in 1..max_number and a target in 1..max_target that have a solution;
the seed selects `heldout` of them as held-out problems. The numbers are sorted, so no reordering of a training problem
is held out.

The verifier parses the response with its own tokenizer and recursive-descent parser:

    sum     = product { ("+" | "-") product }
    product = factor { "*" factor }
    factor  = number | "(" sum ")"
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from trainer.config import TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, Vocabulary
from trainer.tasks.split import Split, seeded_rank

MAX_RESPONSE_CHARACTERS = 64
"""longer responses are not parsed: malformed; this also bounds the recursion of the parser"""

_TOKEN = re.compile(r"0|[1-9][0-9]*|[-+*()]", re.ASCII)
_OPERATORS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class Countdown(Split):
    """The task. Its construction enumerates all problems, in about a second, and orders them by the seed."""

    name = "countdown"
    vocabulary = Vocabulary(tuple("0123456789+-*()=: "), split="characters")

    def __init__(self, config: TaskConfig) -> None:
        """Raises ScopeError if `task.heldout` leaves no training problem, or for a share of easy problems."""
        if config.easy_share:
            raise ScopeError(
                f"task.easy_share={config.easy_share} is not possible with task.name='countdown', which has no easy "
                "problems. Use task.easy_share=0, or task.name=countdown_cot."
            )
        universe = sorted(
            map(_problem, _universe(config.max_number, config.max_target)),
            key=lambda problem: seeded_rank(config.seed, problem.id),
        )
        if config.heldout >= len(universe):
            raise ScopeError(
                f"task.heldout={config.heldout} leaves no training problem: "
                f"task.max_number={config.max_number} and task.max_target={config.max_target} give "
                f"{len(universe)} problems. Use a smaller task.heldout, or larger numbers."
            )
        super().__init__(universe[config.heldout :], universe[: config.heldout])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Reward 1 for an expression that uses each number exactly once and equals the target, else 0.

        Verdicts: "correct", "wrong value", "wrong numbers", "malformed".
        """
        try:
            value, operands = evaluate(response_text)
        except MalformedError:
            return unreadable("malformed")
        return score(problem, value, operands)

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The expression as written; None if it is malformed."""
        try:
            evaluate(response_text)
        except MalformedError:
            return None
        return response_text

    def solutions(self, problem: Problem) -> list[str]:
        """Every distinct correct answer with at most one pair of parentheses."""
        target = problem.data["target"]
        return sorted({text for text, value in _expressions(problem.data["numbers"]) if value == target})

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """One of `solutions`, uniformly at random."""
        solutions = self.solutions(problem)
        return solutions[rng.integers(len(solutions))]


def unreadable(verdict: str) -> Verdict:
    """The verdict with reward 0 on a response without a readable expression."""
    return Verdict(0.0, {"format": 0.0, "numbers": 0.0, "value": 0.0}, verdict)


def score(problem: Problem, value: int, operands: Sequence[int]) -> Verdict:
    """Reward 1 for an expression that uses each number exactly once and equals the target, else 0."""
    numbers = sorted(operands) == sorted(problem.data["numbers"])
    equal = value == problem.data["target"]
    verdict = "wrong numbers" if not numbers else "correct" if equal else "wrong value"
    components = {"format": 1.0, "numbers": float(numbers), "value": float(equal)}
    return Verdict(float(numbers and equal), components, verdict)


class MalformedError(ValueError):
    """The text is not an expression of the grammar in this module's docstring."""


def evaluate(text: str) -> tuple[int, list[int]]:
    """The value of an expression, and its operands in the order written. Raises `MalformedError`."""
    if len(text) > MAX_RESPONSE_CHARACTERS:
        raise MalformedError(f"{len(text)} characters, at most {MAX_RESPONSE_CHARACTERS} are read")
    return evaluate_tokens(_tokens(text))


def evaluate_tokens(tokens: Sequence[str]) -> tuple[int, list[int]]:
    """`evaluate` for tokens; the caller bounds their number and length."""
    for token in tokens:
        if _TOKEN.fullmatch(token) is None:
            raise MalformedError(f"unexpected {token!r}")
    parser = _Parser(tokens)
    value = parser.sum()
    parser.expect_end()
    return value, parser.operands


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise MalformedError(f"unexpected {text[position]!r}")
        tokens.append(match.group())
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._next = 0
        self.operands: list[int] = []

    def sum(self) -> int:
        value = self._product()
        while (operator := self._peek()) in ("+", "-"):
            self._next += 1
            value = _OPERATORS[operator](value, self._product())
        return value

    def expect_end(self) -> None:
        if self._peek():
            raise MalformedError(f"unexpected {self._peek()!r}")

    def _product(self) -> int:
        value = self._factor()
        while self._peek() == "*":
            self._next += 1
            value *= self._factor()
        return value

    def _factor(self) -> int:
        token = self._peek()
        self._next += 1
        if token == "(":
            value = self.sum()
            if self._peek() != ")":
                raise MalformedError("an open parenthesis")
            self._next += 1
            return value
        if not token or not token[0].isdigit():
            raise MalformedError(f"unexpected {token!r}")
        self.operands.append(int(token))
        return self.operands[-1]

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""


_Key = tuple[tuple[int, int, int], int]
"""sorted numbers and target, the identity of a problem"""


def _universe(max_number: int, max_target: int) -> Iterator[_Key]:
    for numbers in itertools.combinations_with_replacement(range(1, max_number + 1), 3):
        for target in _reachable(numbers):
            if 1 <= target <= max_target:
                yield numbers, target


def _reachable(numbers: tuple[int, int, int]) -> set[int]:
    """Every value of an expression that uses each of the three numbers once."""
    values = set()
    for a, b, c in set(itertools.permutations(numbers)):
        for first in _OPERATORS.values():
            for second in _OPERATORS.values():
                values.add(second(first(a, b), c))
                values.add(first(a, second(b, c)))
    return values


def _expressions(numbers: tuple[int, int, int]) -> Iterator[tuple[str, int]]:
    """Every expression with at most one pair of parentheses, and its value."""
    for a, b, c in set(itertools.permutations(numbers)):
        for p, first in _OPERATORS.items():
            for q, second in _OPERATORS.items():
                left, right = second(first(a, b), c), first(a, second(b, c))
                yield f"({a}{p}{b}){q}{c}", left
                yield f"{a}{p}({b}{q}{c})", right
                yield f"{a}{p}{b}{q}{c}", right if q == "*" and p != "*" else left


def _problem(key: _Key) -> Problem:
    (a, b, c), target = key
    return Problem(
        f"{a},{b},{c}={target}", f"{a} {b} {c}={target}:", {"numbers": (a, b, c), "target": target}
    )
