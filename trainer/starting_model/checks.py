"""Checks whether the learner can train a model, from the configuration in its directory, without loading weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.config import ModelConfig, RunConfig
from trainer.errors import ScopeError

CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "logits_mup_width_multiplier")
"""fields of models whose logits are not just hidden states times output matrix; a scale of 1 has no effect"""


def check_model(directory: Path, config: RunConfig) -> None:
    """Raise ScopeError for a model that transformers cannot read or that the learner would compute wrongly."""
    from transformers import AutoConfig

    name = f"model.path={config.model.path!r}"
    try:
        loaded: Any = AutoConfig.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ScopeError(f"{name}: transformers cannot read it: {error}") from error
    text = loaded.get_text_config()
    caps = {field: value for field in CAPS if (value := getattr(text, field, None))}
    scales = {field: value for field in SCALES if (value := getattr(text, field, None)) not in (None, 1)}
    if changes := caps | scales:
        shown = ", ".join(f"{field}={value}" for field, value in changes.items())
        raise ScopeError(
            f"{name} changes its logits ({shown}), and the learner computes hidden states times output matrix: choose "
            "another model"
        )
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if config.learner.share_prompts and kinds != {"full_attention"}:
        raise ScopeError(
            f"learner.share_prompts=true needs full attention in every layer; this model has {sorted(kinds)}: set "
            "learner.share_prompts=false"
        )


def check_tokenizer(directory: Path, config: ModelConfig) -> None:
    """Raise ScopeError for a tokenizer with ids that the model does not have, without end token or chat template.

    The template is required only with `model.chat=on`. Ids are checked only with a `tokenizer.json`.
    """
    settings = _read(directory / "tokenizer_config.json")
    end = settings.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    if not end:
        raise ScopeError(
            f"model.path={str(directory)!r}: its tokenizer_config.json has no eos_token, so no response could end."
        )
    template = "chat_template" in settings or (directory / "chat_template.jinja").is_file()
    if config.chat == "on" and not template:
        raise ScopeError(
            f"model.chat='on', but the tokenizer in model.path={str(directory)!r} has no chat template; use "
            "model.chat=auto or off."
        )
    if not (directory / "tokenizer.json").is_file():
        return
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).get_vocab(with_added_tokens=True)
    model = _read(directory / "config.json")
    size = model.get("vocab_size", model.get("text_config", {}).get("vocab_size"))
    if size is not None and max(ids.values()) >= size:
        token = max(ids, key=lambda name: ids[name])
        raise ScopeError(
            f"model.path={str(directory)!r}: its tokenizer has token ids up to {ids[token]} ({token!r}) and the "
            f"model only {size}: they do not belong together."
        )
    if end not in ids:
        raise ScopeError(
            f"model.path={str(directory)!r}: eos_token={end!r} of its tokenizer_config.json is not in its "
            "tokenizer.json."
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
