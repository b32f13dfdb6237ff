"""A task for measuring time: `task.name=benchmarks.performance.endless:Endless`.

Half of all responses are correct, by their first character. The model of `make_model` samples every character of the
vocabulary, about four thousand, with equal probability, so almost every response reaches the length limit.
"""

from __future__ import annotations

from pathlib import Path

from trainer.config import ModelConfig, TaskConfig
from trainer.starting_model.tiny_model import build_model, build_tokenizer
from trainer.tasks import Problem, Verdict, Vocabulary
from trainer.tasks.split import Split

FIRST = 0x4E00
"""code point of the first character, in a block of CJK ideographs"""
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
        """Correct if the first character has an even code point."""
        right = bool(response_text) and ord(response_text[0]) % 2 == 0
        return Verdict(float(right), {}, "correct" if right else "wrong")


def make_model(path: Path, config: ModelConfig) -> int:
    """Save a model for the task with random weights and an output head of zeros. Returns its number of parameters."""
    tokenizer = build_tokenizer(Endless.vocabulary, config.max_length)
    model = build_model(config, tokenizer, seed=1)
    model.lm_head.weight.data.zero_()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model.num_parameters()
