"""Finds the model of `scope eval`: a Hugging Face directory, a run directory, a run id, or a hub id."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import step_of_name
from trainer.errors import ScopeError
from trainer.starting_model.find import StartingModel, download, is_hub_id

MOST_CONTEXT = 32768
"""Longest context used by default, in tokens: a longer one costs key-value cache."""
RUNS = Path("runs")


@dataclass(frozen=True)
class EvaluatedModel:
    """A model on this machine."""

    directory: Path
    """a Hugging Face directory"""
    run: Path | None
    """directory of the run that made it, if it was given by its run"""
    hub: StartingModel | None = None
    """the snapshot, if it was given by its hub id"""

    @property
    def name(self) -> str:
        """Short name, for messages and paths."""
        if self.hub is not None and self.hub.hub_id is not None:
            return self.hub.hub_id.rpartition("/")[2]
        return self.directory.name if self.run is None else self.run.name

    @property
    def identity(self) -> list[list[Any]]:
        """Name, size in bytes and modification time (ns) of every file; a rewritten model has another identity."""
        files = sorted(path for path in self.directory.iterdir() if path.is_file())
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

    def context(self) -> int:
        """Context length in tokens, at most `MOST_CONTEXT`. Raises ScopeError when the model does not state it."""
        config = json.loads((self.directory / "config.json").read_text())
        length = config.get("max_position_embeddings") or config.get("text_config", {}).get(
            "max_position_embeddings"
        )
        if not isinstance(length, int):
            raise ScopeError(
                f"{self.directory}/config.json has no max_position_embeddings; add --set model.max_length=TOKENS."
            )
        return min(length, MOST_CONTEXT)


def find_model(text: str, runs: Path = RUNS) -> EvaluatedModel:
    """Find the model that `text` names; downloads a hub model, owner/name or owner/name@revision.

    Raises ScopeError, which says what `text` is instead, when there is no model.
    """
    given = Path(os.path.expanduser(text))
    for path in (given, runs / text):
        # Not `Path.is_file`, which raises for a name that is too long.
        if os.path.isfile(path / "config.json"):
            return EvaluatedModel(path.resolve(), None)
        if os.path.isfile(path / "config.yaml"):
            model = path.resolve() / "model"
            if not (model / "config.json").is_file():
                raise ScopeError(
                    f"The run in {path} has no model/ yet: it is written when a run ends or stops. One of its "
                    f"checkpoints can be exported: scope export {path} --step N --out DIR."
                )
            return EvaluatedModel(model, path.resolve())
    if os.path.isfile(given / "manifest.json"):
        step = step_of_name(given.name)
        which = "STEP" if step is None else str(step)
        raise ScopeError(
            f"{given} is a checkpoint, with weights for the learner. Export it first: scope export "
            f"{given.resolve().parent.parent} --step {which} --out DIR."
        )
    hub_id, _, revision = text.partition("@")
    if is_hub_id(hub_id):
        hub = download(hub_id, revision or None, "MODEL")
        return EvaluatedModel(hub.directory, None, hub)
    raise ScopeError(
        f"MODEL = {text!r} is not a model: it must be a directory with a Hugging Face config.json, a run directory, "
        f"the id of a run under {runs}/, or a hub id (owner/name)."
    )
