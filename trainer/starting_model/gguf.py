"""Conversion of a GGUF file to a Hugging Face directory with dequantized weights and the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import ModelConfig
from trainer.errors import ScopeError
from trainer.files import new_model_directory
from trainer.starting_model.checks import check_tokenizer

MAGIC = b"GGUF"


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    architecture: str
    parameters: int
    chat: bool
    """whether the tokenizer has a chat template"""


def import_gguf(source: Path, out: Path, dtype: str, *, replace: bool = False) -> Imported:
    """Write `out`, whole or not at all.

    dtype: of the written weights, float32 or bfloat16; quantized weights are dequantized. replace: as in
    `new_model_directory`. Raises ScopeError if `source` is not a GGUF file or has an architecture that transformers
    cannot read, if `out` is not empty, or if a run cannot use the tokenizer.
    """
    with new_model_directory(out, replace=replace) as writing:
        return _write(source, writing, dtype)


def _write(source: Path, writing: Path, dtype: str) -> Imported:
    _require_gguf(source)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # Any: what transformers returns depends on the file.
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        read: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=getattr(torch, dtype)
        )
    except Exception as error:
        # A damaged file raises whatever its reader stumbles over.
        raise ScopeError(
            f"FILE={str(source)!r} cannot be read by transformers: {type(error).__name__}: {error}"
        ) from error
    # transformers still treats the model as quantized and refuses to save it: copy the values into a plain model.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=getattr(torch, dtype))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(writing)
    tokenizer.save_pretrained(writing)
    _check_tokenizer(source, writing)
    return Imported(model.config.model_type, model.num_parameters(), bool(tokenizer.chat_template))


def _check_tokenizer(source: Path, written: Path) -> None:
    try:
        check_tokenizer(written, ModelConfig())
    except ScopeError as error:
        raise ScopeError(f"FILE={str(source)!r} cannot be trained: {error}") from error


def _require_gguf(source: Path) -> None:
    try:
        with source.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise ScopeError(f"FILE={str(source)!r} cannot be read: {error.strerror}.") from error
    if magic != MAGIC:
        raise ScopeError(f"FILE={str(source)!r} is not a GGUF file: it does not begin with {MAGIC.decode()}.")
