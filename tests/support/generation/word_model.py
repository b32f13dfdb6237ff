"""A random model whose vocabulary covers the prompts of a test task."""

from __future__ import annotations

from pathlib import Path

from tests.support.generation.tiny import tiny_config
from trainer.starting_model.tiny_model import build_model, build_tokenizer
from trainer.tasks import Vocabulary


def make_model(folder: Path, characters: str) -> Path:
    """A random model over the vocabulary of these characters."""
    config = tiny_config(model={"max_length": 512}).model
    tokenizer = build_tokenizer(Vocabulary(tuple(characters), split="characters"), config.max_length)
    tokenizer.save_pretrained(folder)
    build_model(config, tokenizer, seed=1).save_pretrained(folder)
    return folder
