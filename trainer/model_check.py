"""Whether the learner can train the model of a directory: read from its configuration, without loading weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.errors import ScopeError

CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "logits_mup_width_multiplier")
"""Fields of models whose logits are more than hidden states times output matrix; a scale of 1 is none."""


def check_model(directory: Path, config: RunConfig) -> None:
    """Raise ScopeError for what transformers cannot read, or the learner would compute wrongly."""
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
            f"{name} changes its logits ({shown}), and the learner takes hidden states times output matrix: choose a "
            "model that does not"
        )
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if config.learner.share_prompts and kinds != {"full_attention"}:
        raise ScopeError(
            f"learner.share_prompts=true needs full attention in every layer; this model has {sorted(kinds)}: set "
            "learner.share_prompts=false"
        )
