"""What makes a model directory the same model at another time or place: its settings, tokenizer and weight files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
)
_WEIGHTS = ("*.safetensors", "*.bin")


def model_files(directory: Path) -> dict[str, str]:
    """File of a Hugging Face directory → SHA-256 of its content; of weights, which are large, the size in bytes."""
    settings = {name: _digest(directory / name) for name in _SETTINGS if (directory / name).is_file()}
    weights = sorted(path for pattern in _WEIGHTS for path in directory.glob(pattern) if path.is_file())
    return settings | {path.name: f"{path.stat().st_size} bytes" for path in weights}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
