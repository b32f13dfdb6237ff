"""Where a model that somebody names lies: a directory of this machine, or a snapshot of the Hugging Face hub.

A path that exists wins. Snapshots are in huggingface_hub's own cache (HF_HOME), where it downloads them to; with
HF_HUB_OFFLINE it takes what is there and asks nobody.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.config import ModelConfig
from trainer.errors import ScopeError

SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
"""Files of a snapshot that say what the model is, and make its tokenizer."""
WEIGHTS, OLD_WEIGHTS = "*.safetensors", "*.bin"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class StartingModel:
    """A Hugging Face directory, and where it came from."""

    directory: Path
    hub_id: str | None = None
    commit: str | None = None
    """of the hub's repository; None for a directory of one's own"""


def is_hub_id(path: str) -> bool:
    """Whether `path` is of the form owner/name and nothing here has that name."""
    return _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def find_starting_model(model: ModelConfig, *, weights: bool = True) -> StartingModel | None:
    """The model of `model.path`, downloaded where it is a hub id; None for the built-in model.

    weights: also fetch these, and not only what can be checked without them. Raises ScopeError, which names the field
    and what to do.
    """
    if model.path is None:
        return None
    if is_hub_id(model.path):
        return download(model.path, model.revision, "model.path", weights=weights)
    return _own_directory(model, model.path)


def cached_starting_model(model: ModelConfig) -> StartingModel | None:
    """The same without asking anybody; None also for a hub id whose snapshot is not whole in the cache."""
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

    field: what to call `hub_id` in the ScopeError that is raised when it cannot be had.
    """
    from huggingface_hub import constants

    try:
        return _snapshot(hub_id, revision, weights=weights, local=False)
    except Exception as error:
        # The library raises errors of a dozen kinds for what is wrong with a name, a file or the network.
        words = next((line for line in str(error).splitlines() if line.strip()), "").strip()
        command = f"hf download {hub_id}" + (f" --revision {revision}" if revision else "")
        offline = "HF_HUB_OFFLINE is set. " if constants.is_offline_mode() else ""
        raise ScopeError(
            f"{field}={hub_id!r} is no directory here, and revision {revision or constants.DEFAULT_REVISION!r} of that "
            f"name cannot be had from the Hugging Face hub or its cache, {constants.HF_HUB_CACHE}: {offline}"
            f"{type(error).__name__}: {words} Correct the name, give a directory, log in where the model asks for it "
            f"(hf auth login), or fill the cache from a machine with a network ({command}) and set HF_HOME to it."
        ) from error


def _own_directory(model: ModelConfig, path: str) -> StartingModel:
    directory = Path(path).expanduser()
    if not (directory / "config.json").is_file():
        raise ScopeError(
            f"model.path={path!r} is not a Hugging Face model directory: it has no config.json. Give a directory that "
            "transformers loads, a hub id (owner/name), or leave model.path unset for the built-in tiny model."
        )
    if model.revision is not None:
        raise ScopeError(
            f"model.revision={model.revision!r} is of a hub id, and model.path={path!r} is a directory here: leave "
            "model.revision unset."
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
    """How many token ids the model of a Hugging Face directory knows; None where its configuration does not say."""
    path = Path(model_dir) / "config.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text()).get("vocab_size")
