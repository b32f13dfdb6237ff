"""A task for measuring time: `task.name=benchmarks.performance.endless:Endless`.

Half of all responses are right, by their first character; the model that `make_model` leaves for it ends almost none
of them before the limit, since it takes any of some thousand characters with equal probability.
"""

from __future__ import annotations

from pathlib import Path

from trainer.config import ModelConfig, TaskConfig
from trainer.starting_model.tiny_model import build_model, build_tokenizer
from trainer.tasks import Problem, Verdict, Vocabulary
from trainer.tasks.split import Split

FIRST = 0x4E00
"""of the characters, which are a block of CJK ideographs"""
CHARACTERS, PROBLEMS, PROMPT = 4093, 4096, 8


class Endless(Split):
    """Prompts of a few characters."""

    name = "endless"
    vocabulary = Vocabulary(tuple(chr(FIRST + i) for i in range(CHARACTERS)), split="characters")

    def __init__(self, config: TaskConfig) -> None:
        """The same prompts for every seed."""
        prompts = [
            "".join(chr(FIRST + (97 * i + 31 * j) % CHARACTERS) for j in range(PROMPT))
            for i in range(PROBLEMS)
        ]
        problems = [Problem(f"endless-{i}", prompt, {}) for i, prompt in enumerate(prompts)]
        super().__init__(problems[config.heldout :], problems[: config.heldout])

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Whether the first character has an even number."""
        right = bool(response_text) and ord(response_text[0]) % 2 == 0
        return Verdict(float(right), {}, "correct" if right else "wrong")


def make_model(path: Path, config: ModelConfig) -> int:
    """A model directory for the task, random but for a head of zeros; returns its parameters."""
    tokenizer = build_tokenizer(Endless.vocabulary, config.max_length)
    model = build_model(config, tokenizer, seed=1)
    model.lm_head.weight.data.zero_()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model.num_parameters()
