"""Whether a model directory's tokenizer and model belong together: read from its files, without loading either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.config import ModelConfig
from trainer.errors import ScopeError


def check_tokenizer(directory: Path, config: ModelConfig) -> None:
    """Raise ScopeError for a tokenizer that gives ids the model does not have, has no end token, or no chat template.

    The template is asked for with `model.chat=on` only. A directory without `tokenizer.json` (a slow tokenizer) is
    checked for its end token alone.
    """
    settings = _read(directory / "tokenizer_config.json")
    end = settings.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    if not end:
        raise ScopeError(
            f"model.path={str(directory)!r}: its tokenizer_config.json names no eos_token: no response could end."
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
            f"model.path={str(directory)!r}: its tokenizer gives token ids up to {ids[token]} ({token!r}), and the "
            f"model has {size}: tokenizer and model do not belong together."
        )
    if end not in ids:
        raise ScopeError(
            f"model.path={str(directory)!r}: eos_token={end!r} of its tokenizer_config.json is no token of its "
            "tokenizer.json."
        )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
