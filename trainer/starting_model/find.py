"""Finds the model that `model.path` names: a local directory, or a snapshot from the Hugging Face hub.

An existing path takes precedence. Snapshots are in the cache of huggingface_hub (HF_HOME); with HF_HUB_OFFLINE nothing
is downloaded.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.config import ModelConfig
from trainer.config.paths import expanded
from trainer.errors import ScopeError

SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
"""configuration and tokenizer files of a snapshot"""
WEIGHTS, OLD_WEIGHTS = "*.safetensors", "*.bin"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class StartingModel:
    """A Hugging Face directory and its origin."""

    directory: Path
    hub_id: str | None = None
    commit: str | None = None
    """commit of the hub repository; None for a local directory"""


def is_hub_id(path: str) -> bool:
    """Whether `path` has the form owner/name and is not an existing path."""
    return _HUB_ID.fullmatch(path) is not None and not os.path.exists(path)


def find_starting_model(model: ModelConfig, *, weights: bool = True) -> StartingModel | None:
    """The model of `model.path`, downloaded if it is a hub id; None for the built-in model.

    weights: download the weights as well, not only configuration and tokenizer. Raises ScopeError, which names the
    field and what to do.
    """
    if model.path is None:
        return None
    if is_hub_id(model.path):
        return download(model.path, model.revision, "model.path", weights=weights)
    return _own_directory(model, model.path)


def cached_starting_model(model: ModelConfig) -> StartingModel | None:
    """`find_starting_model` without network access; None also for a hub id whose cached snapshot is incomplete."""
    if model.path is None:
        return None
    if not is_hub_id(model.path):
        return _own_directory(model, model.path)
    try:
        return _snapshot(model.path, model.revision, weights=True, local=True)
    except (OSError, ValueError):
        return None


def download(hub_id: str, revision: str | None, field: str, *, weights: bool = True) -> StartingModel:
    """The snapshot of a hub repository. revision: branch, tag or commit; None: its main branch.

    field: name of `hub_id` in the ScopeError that is raised when it is not available.
    """
    from huggingface_hub import constants

    try:
        return _snapshot(hub_id, revision, weights=weights, local=False)
    except Exception as error:
        # The library raises many types of errors for names, files and the network.
        words = next((line for line in str(error).splitlines() if line.strip()), "").strip()
        command = f"hf download {hub_id}" + (f" --revision {revision}" if revision else "")
        offline = "HF_HUB_OFFLINE is set. " if constants.is_offline_mode() else ""
        raise ScopeError(
            f"{field}={hub_id!r} is not a local directory, and revision {revision or constants.DEFAULT_REVISION!r} of "
            f"that name is not available from the Hugging Face hub or its cache, {constants.HF_HUB_CACHE}: {offline}"
            f"{type(error).__name__}: {words} Correct the name, give a directory, log in if the model requires it "
            f"(hf auth login), or fill the cache on a machine with network access ({command}) and set HF_HOME to it."
        ) from error


def _own_directory(model: ModelConfig, path: str) -> StartingModel:
    directory = expanded(path)
    if not os.path.isfile(directory / "config.json"):
        raise ScopeError(
            f"model.path={path!r} is not a Hugging Face model directory: it has no config.json. Give a directory that "
            "transformers loads, a hub id (owner/name), or leave model.path unset for the built-in tiny model."
        )
    if model.revision is not None:
        raise ScopeError(
            f"model.revision={model.revision!r} is only for hub ids, and model.path={path!r} is a local directory: "
            "leave model.revision unset."
        )
    return StartingModel(directory.resolve())


def _snapshot(hub_id: str, revision: str | None, *, weights: bool, local: bool) -> StartingModel:
    from huggingface_hub import snapshot_download

    def fetch(*files: str) -> Path:
        found = snapshot_download(
            hub_id, revision=revision, allow_patterns=[*SETTINGS, *files], local_files_only=local
        )
        return Path(found)

    directory = fetch(WEIGHTS) if weights else fetch()
    if weights and not any(directory.glob(WEIGHTS)):
        directory = fetch(OLD_WEIGHTS)
    if not (directory / "config.json").is_file():
        raise ValueError("it has no config.json, so transformers cannot load it.")
    return StartingModel(directory, hub_id, directory.name)


def vocabulary_size(model_dir: str) -> int | None:
    """The number of token ids in a Hugging Face directory: those of `tokenizer.json` that its model has.

    Models often have more ids than their tokenizer, and these are no text. Without `tokenizer.json` those of the model
    count; None if neither is known.
    """
    settings, tokens = Path(model_dir) / "config.json", Path(model_dir) / "tokenizer.json"
    size = json.loads(settings.read_text()).get("vocab_size") if settings.is_file() else None
    if not tokens.is_file():
        return size
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(tokens)).get_vocab(with_added_tokens=True).values()
    return max(ids) + 1 if size is None else min(size, max(ids) + 1)
