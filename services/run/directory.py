"""The directory of a run: the files in it, and its format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.config.load import config_hash, dump_yaml
from trainer.errors import ScopeError
from trainer.files import write_atomically
from trainer.starting_model.find import StartingModel
from trainer.starting_model.identity import model_files

CONFIG_FILE = "config.yaml"
ENDPOINT_FILE = "endpoint.json"
MODEL_FILE = "starting_model.json"
FORMAT_FILE = "format.json"
FORMAT = 2
"""format of a run directory; it changes with field names in step records, checkpoints and queue"""
FREE_BYTES = 1 << 30
"""disk space that a run needs at its start"""


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run, and its configuration."""

    path: Path
    run_id: str
    config: RunConfig
    resumed: bool
    model: StartingModel | None = None
    """the model at `model.path`; None for the built-in model"""
    notes: tuple[str, ...] = ()
    """notes of the task about its data"""

    @property
    def config_hash(self) -> str:
        """SHA-256 of the resolved configuration."""
        return config_hash(self.config)

    def write_endpoint(self, url: str) -> None:
        """Write the control plane's address, which `scope status` and `scope entropy` read."""
        self.write_json(ENDPOINT_FILE, {"url": url, "run_id": self.run_id})

    def write_config(self) -> None:
        """Write the configuration, and the starting model if it is not the built-in one. Raises OSError."""
        if (model := self.model) is not None:
            named = {"path": self.config.model.path, "revision": self.config.model.revision}
            found = {"commit": model.commit, "directory": str(model.directory)}
            self.write_json(MODEL_FILE, named | found | {"files": model_files(model.directory)})
        write_atomically(self.path / CONFIG_FILE, dump_yaml(self.config).encode())

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON file atomically."""
        write_atomically(self.path / name, json.dumps(document, indent=2).encode() + b"\n")


def write_format(path: Path) -> None:
    """Write the format of the run directory `path`, which `check_format` reads."""
    write_atomically(path / FORMAT_FILE, json.dumps({"run_directory": FORMAT}).encode() + b"\n")


def check_format(path: Path) -> None:
    """Raise ScopeError unless this version reads the run directory `path`; one without a format file has format 1."""
    marker = path / FORMAT_FILE
    try:
        found = json.loads(marker.read_text())["run_directory"] if marker.is_file() else 1
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ScopeError(
            f"{marker}, which says what format the run directory has, cannot be read: {error}. Put back a copy of it."
        ) from error
    if found != FORMAT:
        raise ScopeError(
            f"The run directory {path} has format {found} and this version reads format {FORMAT}, in which step "
            "records, checkpoints and the queue have other field names: use the version that made it, or start a "
            f"new run from its policy with --set model.path={path / 'model'}."
        )
