"""What MODEL of `scope eval` may be: a Hugging Face directory, a run's directory, a run's id, or a hub id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ScopeError
from trainer.starting_model.find import StartingModel, download, is_hub_id

MOST_CONTEXT = 32768
"""tokens of context that are used where nobody says how many: a longer one only costs key-value cache"""
RUNS = Path("runs")


@dataclass(frozen=True)
class EvaluatedModel:
    """A model on this machine."""

    directory: Path
    """a Hugging Face directory"""
    run: Path | None
    """the run that made it, where it was named by its run"""
    hub: StartingModel | None = None
    """the snapshot, where it was named by its hub id"""

    @property
    def name(self) -> str:
        """Short, for people and for paths."""
        if self.hub is not None and self.hub.hub_id is not None:
            return self.hub.hub_id.rpartition("/")[2]
        return self.directory.name if self.run is None else self.run.name

    @property
    def identity(self) -> list[list[Any]]:
        """Name, bytes and time of change (ns) of every file: a model that is written anew is another one."""
        files = sorted(path for path in self.directory.iterdir() if path.is_file())
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

    def context(self) -> int:
        """Tokens that the model was made for, at most `MOST_CONTEXT`. Raises ScopeError where it does not say."""
        config = json.loads((self.directory / "config.json").read_text())
        length = config.get("max_position_embeddings") or config.get("text_config", {}).get(
            "max_position_embeddings"
        )
        if not isinstance(length, int):
            raise ScopeError(
                f"{self.directory}/config.json has no max_position_embeddings; say --set model.max_length=TOKENS."
            )
        return min(length, MOST_CONTEXT)


def find_model(text: str, runs: Path = RUNS) -> EvaluatedModel:
    """The model that `text` names; one of the hub, owner/name or owner/name@revision, is downloaded.

    Raises ScopeError, with what is there instead, where there is none.
    """
    given = Path(text).expanduser()
    for path in (given, runs / text):
        if (path / "config.json").is_file():
            return EvaluatedModel(path.resolve(), None)
        if (path / "config.yaml").is_file():
            model = path.resolve() / "model"
            if not (model / "config.json").is_file():
                raise ScopeError(
                    f"The run in {path} has no model/ yet: it is written when a run ends or stops. One of its "
                    f"checkpoints can be exported: scope export {path} --step N --out DIR."
                )
            return EvaluatedModel(model, path.resolve())
    if (given / "manifest.json").is_file():
        raise ScopeError(
            f"{given} is a checkpoint, with weights for the learner. Export it first: scope export "
            f"{given.parent.parent} --step {int(given.name.rpartition('-')[2])} --out DIR."
        )
    hub_id, _, revision = text.partition("@")
    if is_hub_id(hub_id):
        hub = download(hub_id, revision or None, "MODEL")
        return EvaluatedModel(hub.directory, None, hub)
    raise ScopeError(
        f"MODEL = {text!r} is not a model: it must be a directory with a Hugging Face config.json, a run directory, "
        f"the id of a run under {runs}/, or a hub id (owner/name)."
    )
