"""Whether a run can be resumed as asked: what it has done, what it was made with, and what would change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from services.recorded.saved_state import read_saved
from services.results.evaluations import EVALUATIONS, Evaluations
from services.run.resumption import changes
from services.run.state import RunSpec
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig
from trainer.config.load import load_config, validate_config
from trainer.errors import ScopeError


class FinishedRun(ScopeError):
    """The run has done all that its configuration asks for."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(
            f"the run {path.name} is finished: all {steps} learner steps are made, evaluated and reported. To train "
            f"longer, raise steps: scope train --resume {path} --set steps={2 * steps}"
        )
        self.run_id = path.name


def stored_config(file: Path) -> RunConfig:
    """The configuration of a run from its directory. Raises ScopeError, which says whose it is."""
    try:
        return load_config(file)
    except ScopeError as error:
        raise ScopeError(
            f"{file}, the configuration that the run was made with, is not one of this version: {error} Resume the "
            "run with the version that made it, or start a new run from its model/."
        ) from error


def check_resumption(path: Path, stored: RunConfig, config: RunConfig) -> list[str]:
    """Compare a run with the configuration of its resumption; returns a note for each change.

    stored: of the run; config: the same with the changes that are asked for. Raises FinishedRun when nothing is left to
    do, and ScopeError for a change that is not allowed and a directory that was renamed. Changes nothing.
    """
    saved = _saved(path)
    if saved is not None and saved.run_id != path.name:
        raise ScopeError(
            f"The run in {path} began under the id {saved.run_id!r}, by which its queue knows it: give the directory "
            "that name again, in any place."
        )
    asked = changes(stored, config)
    refused = [change for change in asked if not change.allowed]
    if saved is not None and saved.config is not None:
        # Someone may have edited config.yaml since.
        known = {change.path for change in refused}
        refused += [
            change
            for change in changes(saved.config, config)
            if not change.allowed and change.path not in known
        ]
    if refused:
        raise ScopeError("\n\n".join(change.refusal for change in refused))
    done = max(CheckpointStore(path / "checkpoints", config.checkpoint.keep).steps, default=0)
    if done > config.steps:
        raise ScopeError(
            f"steps = {config.steps} is not allowed in a resumption: the run in {path} has a checkpoint of step {done} "
            f"already. Set steps to {done} or more; scope export --step exports an earlier checkpoint."
        )
    if done == config.steps and _is_reported(path, done):
        if unused := [change.path for change in asked if change.path != "runs_dir"]:
            raise ScopeError(
                f"The run in {path} is finished: no learner step is left that a change of {', '.join(unused)} would "
                f"apply to. Also raise steps above {done}."
            )
        raise FinishedRun(path, done)
    return [str(change) for change in asked]


class _Saved(NamedTuple):
    """What the newest incarnation of the driver has left in the run's saved state."""

    run_id: str
    config: RunConfig | None


def _saved(path: Path) -> _Saved | None:
    """None without a saved state that this version reads: a run does not depend on that file."""
    try:
        state = read_saved(path)
        if state is None:
            return None
        spec = state.strings.get("spec")
        config = None if spec is None else validate_config(RunSpec.model_validate_json(spec).config)
    except (ScopeError, ValueError):
        return None
    return _Saved(state.run_id, config)


def _is_reported(path: Path, step: int) -> bool:
    """Whether the run has its model, the evaluation of `step`, and a report of as many steps."""
    report: dict[str, Any] = _document(path / "report.json")
    evaluated = any(found.step == step for found in Evaluations(path / EVALUATIONS).all)
    return evaluated and report.get("steps") == step and (path / "model" / "config.json").is_file()


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
