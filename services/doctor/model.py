"""The doctor's look at a model directory: does it fit the learner, the tokenizer and the configured lengths?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.sizing import ModelShape, built_in_shape, model_shape
from trainer.tasks import TaskWithSolutions, make_task

SPECIAL_TOKENS = 3
"""of the built-in model's tokenizer"""
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Fields of models whose logits are more than hidden states times output matrix."""


def read_model_config(config: RunConfig) -> Mapping[str, Any] | None:
    """The model's `config.json`; None for the built-in model. Raises ScopeError."""
    if config.model.path is None:
        return None
    file = Path(config.model.path).expanduser() / "config.json"
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ScopeError(
            f"model.path={config.model.path!r} has no config.json that can be read: {error}"
        ) from error
    if not isinstance(document, dict):
        raise ScopeError(f"model.path={config.model.path!r}: its config.json is not a JSON object")
    return document


def shape_of(config: RunConfig) -> ModelShape:
    """Sizes of the model that the run trains. Raises ScopeError."""
    document = read_model_config(config)
    if document is not None:
        return model_shape(document)
    task = make_task(config.task)
    if not isinstance(task, TaskWithSolutions):
        raise ScopeError(
            f"task.name={config.task.name!r} has no vocabulary for the built-in model: set model.path"
        )
    return built_in_shape(config, len(task.vocabulary.tokens) + SPECIAL_TOKENS)


def check_lengths(config: RunConfig) -> list[str]:
    """Raises ScopeError where responses or positions cannot fit."""
    model, response = config.model, config.rollout.max_new_tokens
    if response >= model.max_length:
        raise ScopeError(
            f"rollout.max_new_tokens={response} leaves no room for a prompt in model.max_length={model.max_length}: "
            "raise model.max_length, or lower rollout.max_new_tokens"
        )
    context = shape_of(config).context
    if model.max_length > context:
        raise ScopeError(
            f"model.max_length={model.max_length} must be at most {context}, the model's max_position_embeddings"
        )
    return []


def check_architecture(config: RunConfig) -> list[str]:
    """Raises ScopeError for what transformers cannot load, or the learner would compute wrongly."""
    document = read_model_config(config)
    if document is None:
        return []
    from transformers import AutoConfig

    try:
        loaded = AutoConfig.from_pretrained(Path(str(config.model.path)).expanduser(), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ScopeError(f"model.path={config.model.path!r}: transformers cannot read it: {error}") from error
    changed = [name for name in LOGIT_CHANGES if document.get(name)]
    if changed:
        raise ScopeError(
            f"model.path={config.model.path!r} changes its logits ({', '.join(changed)}), and the learner takes hidden "
            "states times output matrix: choose a model that does not"
        )
    kinds = set(getattr(loaded, "layer_types", None) or ["full_attention"])
    if config.learner.share_prompts and kinds != {"full_attention"}:
        raise ScopeError(
            f"learner.share_prompts=true needs full attention in every layer; this model has {sorted(kinds)}: set "
            "learner.share_prompts=false"
        )
    if not any(Path(str(config.model.path)).expanduser().glob("*.safetensors")):
        return ["no *.safetensors file is there: loading falls back to other formats or fails"]
    return []


def check_tokenizer(config: RunConfig) -> list[str]:
    """Raises ScopeError for a tokenizer that is missing, has no end, or has tokens that the model has not."""
    if config.model.path is None:
        return []
    from transformers import AutoTokenizer

    path = Path(config.model.path).expanduser()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ScopeError(f"model.path={config.model.path!r} has no tokenizer that loads: {error}") from error
    vocabulary, tokens = shape_of(config).vocabulary, len(tokenizer)
    if tokens > vocabulary:
        raise ScopeError(
            f"model.path={config.model.path!r}: its tokenizer has {tokens:,} tokens and the model {vocabulary:,}: "
            "they do not belong together"
        )
    if tokenizer.eos_token_id is None:
        raise ScopeError(
            f"model.path={config.model.path!r}: its tokenizer has no end-of-sequence token, so responses would not end"
        )
    if config.model.chat == "on" and tokenizer.chat_template is None:
        raise ScopeError("model.chat=on, but the tokenizer has no chat template: use model.chat=auto or off")
    return []
