"""Checks of what an engine would refuse when it starts: the configured lengths, and how its GPUs share the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.errors import ScopeError


def check_engine(config: RunConfig, directory: Path | None) -> list[str]:
    """Raise ScopeError if prompt and response do not fit, or if the model's heads cannot be divided among GPUs.

    directory: of the model; None for the built-in one, whose shape is configured.
    """
    length, response = config.model.max_length, config.rollout.max_new_tokens
    if response >= length:
        raise ScopeError(
            f"rollout.max_new_tokens={response} leaves no room for a prompt in model.max_length={length}: "
            "raise model.max_length, or lower rollout.max_new_tokens"
        )
    shape = _shape(directory)
    context = length if directory is None else shape.get("max_position_embeddings")
    if isinstance(context, int) and length > context:
        raise ScopeError(
            f"model.max_length={length} must be at most {context}, the model's max_position_embeddings"
        )
    heads = config.model.heads if directory is None else shape.get("num_attention_heads")
    parallel = config.generators.tensor_parallel
    if isinstance(heads, int) and heads % parallel:
        raise ScopeError(
            f"generators.tensor_parallel={parallel} must divide the model's {heads} attention heads"
        )
    return []


def _shape(directory: Path | None) -> Mapping[str, Any]:
    """The model's own description of its text part; empty for the built-in model."""
    if directory is None:
        return {}
    described = json.loads((directory / "config.json").read_text())
    return described.get("text_config", described)
