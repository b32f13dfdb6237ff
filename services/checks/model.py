"""Checks of a model directory: weights, tokenizer, and the configured lengths."""

from __future__ import annotations

import json
from pathlib import Path

from services.checks.sizing import ModelShape, built_in_shape, model_shape
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.tasks import TaskWithSolutions, make_task

SPECIAL_TOKENS = 3
"""of the built-in model's tokenizer"""


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


def check_lengths(config: RunConfig, shape: ModelShape) -> list[str]:
    """Raise ScopeError if prompt and response do not fit, or positions exceed the model's."""
    model, response = config.model, config.rollout.max_new_tokens
    if response >= model.max_length:
        raise ScopeError(
            f"rollout.max_new_tokens={response} leaves no room for a prompt in model.max_length={model.max_length}: "
            "raise model.max_length, or lower rollout.max_new_tokens"
        )
    if model.max_length > shape.context:
        raise ScopeError(
            f"model.max_length={model.max_length} must be at most {shape.context}, the model's max_position_embeddings"
        )
    return []


def check_weights(directory: Path | None) -> list[str]:
    """Warn if the directory has no safetensors."""
    if directory is not None and not any(directory.glob("*.safetensors")):
        return ["there is no *.safetensors file: loading falls back to other formats or fails"]
    return []


def check_tokenizer(config: RunConfig, directory: Path | None) -> list[str]:
    """Raise ScopeError if the tokenizer is missing, has no end-of-sequence token, or has more tokens than the model."""
    if directory is None:
        return []
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ScopeError(f"model.path={config.model.path!r} has no tokenizer that loads: {error}") from error
    vocabulary, tokens = shape_of(config, directory).vocabulary, len(tokenizer)
    if tokens > vocabulary:
        raise ScopeError(
            f"model.path={config.model.path!r}: its tokenizer has {tokens:,} tokens and the model only {vocabulary:,}: "
            "they do not belong together"
        )
    if tokenizer.eos_token_id is None:
        raise ScopeError(
            f"model.path={config.model.path!r}: its tokenizer has no end-of-sequence token, so responses would not end"
        )
    if config.model.chat == "on" and tokenizer.chat_template is None:
        raise ScopeError("model.chat=on, but the tokenizer has no chat template: use model.chat=auto or off")
    return []
