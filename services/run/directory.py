"""The directory of a run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import RunConfig
from trainer.config.load import config_hash
from trainer.starting_model.find import StartingModel

CONFIG_FILE = "config.yaml"


ENDPOINT_FILE = "endpoint.json"


MODEL_FILE = "starting_model.json"


FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class RunDirectory:
    """One run's directory and what it is configured as."""

    path: Path
    run_id: str
    config: RunConfig
    resumed: bool
    model: StartingModel | None = None
    """what `model.path` names; None for the built-in model"""
    notes: tuple[str, ...] = ()
    """what the task says of its data"""

    @property
    def config_hash(self) -> str:
        """SHA-256 of the resolved configuration."""
        return config_hash(self.config)

    def write_endpoint(self, url: str) -> None:
        """Leave the control plane's address where `scope status` and `scope entropy` find it."""
        self.write_json(ENDPOINT_FILE, {"url": url, "run_id": self.run_id})

    def write_json(self, name: str, document: Any) -> None:
        """Write a JSON file whole or not at all."""
        temporary = self.path / f".{name}.new"
        temporary.write_text(json.dumps(document, indent=2) + "\n")
        os.replace(temporary, self.path / name)
