"""Codecs for each kind of tokenizer in `tests.support.chat_models`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.support.chat_models import Kind, MakeCodec, write_chat_tokenizer
from trainer.config.load import default_config
from trainer.prompts.codec import PromptCodec


@pytest.fixture(scope="session")
def codec_of(tmp_path_factory: pytest.TempPathFactory) -> MakeCodec:
    """kind, settings → a codec with room for prompts of 400 tokens."""

    @cache
    def folder(kind: Kind) -> Path:
        path = tmp_path_factory.mktemp(kind)
        write_chat_tokenizer(path, kind)
        return path

    @cache
    def make(kind: Kind, *settings: str) -> PromptCodec:
        sizes = ["model.max_length=500", "rollout.max_new_tokens=100"]
        return PromptCodec.load(folder(kind), default_config([*sizes, *settings]))

    return make
