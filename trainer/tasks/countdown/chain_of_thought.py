"""Countdown with a chain of thought: the built-in task with long responses whose wording is mostly free.

A problem is to reach a target from three given numbers (two for an easy one) with +, - and *, with all intermediate
values in 0..limit. A response reasons in words (`trainer.tasks.countdown.language`) and ends with an expression. Only
the expression is scored: wording, order, checks and failed attempts do not change the reward, so the policy is free in
them and has high entropy.

Held-out problems have three numbers. `task.easy_share` of the training stream are easy problems, evenly spread; there
are few of them, so they repeat more often.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from trainer.config import TaskConfig
from trainer.errors import ScopeError
from trainer.tasks.base import Problem, Verdict, Vocabulary
from trainer.tasks.countdown.derivation import Term, derivations, joined, steps
from trainer.tasks.countdown.language import ANSWER, SLOTS, WORDS, write
from trainer.tasks.countdown.task import (
    MAX_RESPONSE_CHARACTERS,
    MalformedError,
    evaluate_tokens,
    score,
    unreadable,
)
from trainer.tasks.split import Split, seeded_rank

MAX_CHAIN_CHARACTERS = 1 << 16
"""longer responses are not parsed: malformed"""


class CountdownCot(Split):
    """The task. Its construction enumerates all problems, in seconds, and orders them by the seed."""

    name = "countdown_cot"

    def __init__(self, config: TaskConfig) -> None:
        """Raises ScopeError if `task.heldout` leaves no training problem."""
        self._limit = max(config.max_number, config.max_target)
        hard, easy = (
            sorted(
                _universe(count, config, self._limit),
                key=lambda problem: seeded_rank(config.seed, problem.id),
            )
            for count in (3, 2)
        )
        if config.heldout >= len(hard):
            raise ScopeError(
                f"task.heldout={config.heldout} leaves no training problem: "
                f"task.max_number={config.max_number} and task.max_target={config.max_target} give "
                f"{len(hard)} problems of three numbers. Use a smaller task.heldout, or larger numbers."
            )
        super().__init__(_mixed(hard[config.heldout :], easy, config.easy_share), hard[: config.heldout])

    @property
    def vocabulary(self) -> Vocabulary:
        """One token for every number up to the limit and for every word."""
        return Vocabulary((*map(str, range(self._limit + 1)), *WORDS), split="words")

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Reward 1 if the expression after the last "answer" uses each number once and equals the target, else 0.

        Verdicts: "correct", "wrong value", "wrong numbers", "malformed", "no answer".
        """
        try:
            final = _final(response_text)
            if final is None:
                return unreadable("no answer")
            value, operands = evaluate_tokens(final)
        except MalformedError:
            return unreadable("malformed")
        return score(problem, value, operands)

    def final_answer(self, problem: Problem, response_text: str) -> str | None:
        """The expression after the last "answer"; None if there is none or it is malformed."""
        try:
            final = _final(response_text)
            if final is None:
                return None
            evaluate_tokens(final)
        except MalformedError:
            return None
        return " ".join(final)

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """A random chain of thought of true statements that ends with a correct answer."""
        given = [Term(number) for number in problem.data["numbers"]]
        target = problem.data["target"]
        distinct = dict.fromkeys(derivations(given, self._limit))
        solutions = [term for term in distinct if term.value == target]
        beginnings = {steps(term)[0] for term in solutions}
        dead_ends = [
            join
            for a, b in itertools.combinations(given, 2)
            for join in joined(a, b, self._limit)
            if join not in beginnings
        ]
        return write(solutions[int(rng.integers(len(solutions)))], dead_ends, rng)


def _final(response_text: str) -> list[str] | None:
    """The tokens after the last "answer"; None if there is none. Raises `MalformedError`."""
    if len(response_text) > MAX_CHAIN_CHARACTERS:
        raise MalformedError(f"{len(response_text)} characters, at most {MAX_CHAIN_CHARACTERS} are read")
    words = response_text.split()
    if ANSWER not in words:
        return None
    final = words[len(words) - words[::-1].index(ANSWER) :]
    if final and final[0] in SLOTS["LINK"]:
        final = final[1:]
    if sum(map(len, final)) > MAX_RESPONSE_CHARACTERS:
        raise MalformedError(f"an expression of more than {MAX_RESPONSE_CHARACTERS} characters")
    return final


def _universe(count: int, config: TaskConfig, limit: int) -> Iterator[Problem]:
    """Every problem of `count` numbers that has a derivation within the limit."""
    for numbers in itertools.combinations_with_replacement(range(1, config.max_number + 1), count):
        reached = {term.value for term in derivations([Term(n) for n in numbers], limit)}
        for target in sorted(reached & set(range(1, config.max_target + 1))):
            identity = f"{','.join(map(str, numbers))}={target}"
            prompt = f"{' '.join(map(str, numbers))} = {target} :"
            yield Problem(identity, prompt, {"numbers": numbers, "target": target})


def _mixed(hard: Sequence[Problem], easy: Sequence[Problem], share: float) -> list[Problem]:
    """All hard problems once, with a `share` of easy ones evenly spread among them."""
    easy_count = round(len(hard) * share / (1 - share))
    total = len(hard) + easy_count
    stream, hard_next, easy_next = [], iter(hard), itertools.cycle(easy)
    for i in range(total):
        takes_easy = (i + 1) * easy_count // total > i * easy_count // total
        stream.append(next(easy_next if takes_easy else hard_next))
    return stream
