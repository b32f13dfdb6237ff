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
    """Raise ScopeError for a tokenizer without an end token, or with token ids that the model does not have.

    With `model.chat=on` it must also have a chat template. Reads the tokenizer's files without loading it; the ids of a
    directory without `tokenizer.json` (a slow tokenizer) are not checked.
    """
    settings = _read(directory / "tokenizer_config.json")
    end = settings.get("eos_token")
    template = "chat_template" in settings or (directory / "chat_template.jinja").is_file()
    ids = None
    if (directory / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        ids = Tokenizer.from_file(str(directory / "tokenizer.json")).get_vocab(with_added_tokens=True)
    _apply_rules(directory, config, end.get("content") if isinstance(end, dict) else end, template, ids)


def check_loaded_tokenizer(directory: Path, config: ModelConfig) -> None:
    """Raise ScopeError for a tokenizer that transformers cannot load, or that violates a rule of `check_tokenizer`.

    Takes seconds, because it imports transformers' tokenizers.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ScopeError(f"model.path={str(directory)!r} has no tokenizer that loads: {error}") from error
    template = tokenizer.chat_template is not None
    _apply_rules(directory, config, tokenizer.eos_token, template, tokenizer.get_vocab())


def _apply_rules(
    directory: Path, config: ModelConfig, end: str | None, template: bool, ids: dict[str, int] | None
) -> None:
    """end: the end-of-sequence token. template: whether there is a chat template. ids: token → id, None if unknown."""
    name = f"model.path={str(directory)!r}"
    if not end:
        raise ScopeError(f"{name}: its tokenizer names no eos_token: no response could end.")
    if config.chat == "on" and not template:
        raise ScopeError(
            f"model.chat='on', but the tokenizer in {name} has no chat template; use model.chat=auto or off."
        )
    if ids is None:
        return
    model = _read(directory / "config.json")
    size = model.get("vocab_size", model.get("text_config", {}).get("vocab_size"))
    if size is not None and max(ids.values()) >= size:
        token = max(ids, key=lambda name: ids[name])
        raise ScopeError(
            f"{name}: its tokenizer gives token ids up to {ids[token]} ({token!r}), and the model has {size}: "
            "tokenizer and model do not belong together."
        )
    if end not in ids:
        raise ScopeError(f"{name}: the eos_token={end!r} of its tokenizer is no token of its vocabulary.")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
