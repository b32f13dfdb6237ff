"""End tokens in the files of a model directory: the tokens after which a response has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trainer.files import write_atomically

GENERATION_CONFIG = "generation_config.json"


def named_ends(directory: Path) -> set[int]:
    """The end tokens that the files of a model directory name."""
    found: set[int] = set()
    for name in (GENERATION_CONFIG, "config.json"):
        file = directory / name
        ends = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        found |= set(ends) if isinstance(ends, list) else set() if ends is None else {ends}
    return found


def keep_end_tokens(directory: Path, tokens: Sequence[int]) -> None:
    """Write the end tokens into a model's `generation_config.json`, so that other programs stop at them too."""
    file = directory / GENERATION_CONFIG
    settings = json.loads(file.read_text()) if file.is_file() else {}
    settings["eos_token_id"] = tokens[0] if len(tokens) == 1 else list(tokens)
    write_atomically(file, json.dumps(settings, indent=2).encode() + b"\n")
