"""A task whose response lengths have a long tail, like those of reasoning models: `task.name=long_tail:LongTail`.

Only the first letter of a response is scored. The length of the rest is exponentially distributed with a mean of about
90 tokens, truncated at 384, in the solutions that the built-in model learns from, and therefore in its samples.
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
"""share of the solutions with a random first letter, so that the starting model is correct only some of the time"""


class LongTail(Split):
    """The first letter of the answer is the sum of the prompt's letters modulo eight."""

    name = "long_tail"
    vocabulary = Vocabulary(tuple(LETTERS + ":"), split="characters")

    def __init__(self, config: TaskConfig) -> None:
        """All prompts of four letters, in an order that depends on the seed."""
        words = ["".join(letters) for letters in product(LETTERS, repeat=4)]
        random.Random(config.seed).shuffle(words)
        problems = [Problem(word, f"{word}:", {"answer": _answer(word)}) for word in words]
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Correct if the first letter is."""
        right = response_text[:1] == problem.data["answer"]
        return Verdict(float(right), {}, "correct" if right else "wrong")

    def random_solution(self, problem: Problem, rng: np.random.Generator) -> str:
        """A first letter, correct or random, and a tail of random letters."""
        first = problem.data["answer"] if rng.random() > WRONG_SHARE else str(rng.choice(list(LETTERS)))
        length = min(int(rng.exponential(MEAN_TOKENS)), MOST_TOKENS - 2)
        return first + "".join(rng.choice(list(LETTERS), length))


def _answer(word: str) -> str:
    return LETTERS[sum(map(LETTERS.index, word)) % len(LETTERS)]
