"""A task whose answers are as long as chance will have it, as reasoning's are: `task.name=long_tail:LongTail`.

The first letter of a response is scored. What follows is free: its length is exponential with a mean of about 90
tokens, cut off at 384, in the solutions that the built-in model learns from, and so in what it samples.
"""

from __future__ import annotations

import random
from itertools import product

import numpy as np

from trainer.config import TaskConfig
from trainer.tasks import Problem, Verdict, Vocabulary
from trainer.tasks.split import Split

LETTERS = "abcdefgh"
MEAN_TOKENS, MOST_TOKENS = 90, 384
WRONG_SHARE = 0.5
"""of the solutions: the model begins right now and then"""


class LongTail(Split):
    """The first letter of the answer is the prompt's letters added up, modulo eight."""

    name = "long_tail"
    vocabulary = Vocabulary(tuple(LETTERS + ":"), split="characters")

    def __init__(self, config: TaskConfig) -> None:
        """Every prompt of four letters, in an order of the seed."""
        words = ["".join(letters) for letters in product(LETTERS, repeat=4)]
        random.Random(config.seed).shuffle(words)
        problems = [Problem(word, f"{word}:", {"answer": _answer(word)}) for word in words]
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Its first letter decides."""
        right = response_text[:1] == problem.data["answer"]
        return Verdict(float(right), {}, "correct" if right else "wrong")

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """A letter, right or not, and the tail."""
        first = problem.data["answer"] if rng.random() > WRONG_SHARE else str(rng.choice(list(LETTERS)))
        length = min(int(rng.exponential(MEAN_TOKENS)), MOST_TOKENS - 2)
        return first + "".join(rng.choice(list(LETTERS), length))


def _answer(word: str) -> str:
    return LETTERS[sum(map(LETTERS.index, word)) % len(LETTERS)]
