"""Checks of a model directory: its shape, weights and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from services.checks.sizing import ModelShape, built_in_shape, model_shape
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.starting_model.checks import check_loaded_tokenizer
from trainer.tasks import TaskWithSolutions, make_task

SPECIAL_TOKENS = 3
"""special tokens in the vocabulary of the built-in model's tokenizer"""


def shape_of(config: RunConfig, directory: Path | None) -> ModelShape:
    """The shape of the model that the run trains. directory: None for the built-in model. Raises ScopeError."""
    if directory is not None:
        return model_shape(json.loads((directory / "config.json").read_text()))
    task = make_task(config.task)
    if not isinstance(task, TaskWithSolutions):
        raise ScopeError(
            f"task.name={config.task.name!r} has no vocabulary for the built-in model: set model.path"
        )
    return built_in_shape(config, len(task.vocabulary.tokens) + SPECIAL_TOKENS)


def check_weights(directory: Path | None) -> list[str]:
    """Warn if the directory has no safetensors."""
    if directory is not None and not any(directory.glob("*.safetensors")):
        return ["there is no *.safetensors file: loading falls back to other formats or fails"]
    return []


def check_tokenizer(config: RunConfig, directory: Path | None) -> list[str]:
    """Raise ScopeError for a tokenizer that does not load, or that a run would refuse at its start."""
    if directory is not None:
        check_loaded_tokenizer(directory, config.model)
    return []
