"""Creates, replaces or reopens the run directory `runs/<id>/`, before anything expensive starts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from services.checks.preflight import preflight
from services.driver.resumption import check_resumption, stored_config
from services.driver.unbegun import is_unbegun, mark_unbegun, remove_unbegun, withdraw
from services.run.directory import (
    CONFIG_FILE,
    FREE_BYTES,
    MODEL_FILE,
    RunDirectory,
    check_format,
    write_format,
)
from services.run.ids import is_run_id
from services.run.lock import LOCK_FILE
from trainer.config import ModelConfig
from trainer.config.load import config_over, load_config
from trainer.config.paths import expanded
from trainer.errors import ScopeError
from trainer.files import explained_if_unwritable
from trainer.starting_model.find import StartingModel, find_starting_model
from trainer.starting_model.identity import model_files

ORPHAN_SECONDS = 30.0
"""The processes of a killed driver end within this time; until then they hold the run's ports."""


def new_run(config_path: Path, overrides: list[str], run_id: str | None, *, replace: bool) -> RunDirectory:
    """Create the directory of a new run and lock it for this process. Changes nothing before every check has passed.

    replace: move an existing directory aside. One in which no step was made is replaced in any case. Raises ScopeError,
    without `replace` also for an existing directory.
    """
    config = load_config(config_path, overrides)
    run_id = run_id or f"{config_path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not is_run_id(run_id):
        raise ScopeError(
            f"run id = {run_id!r} is not allowed: it must be 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit."
        )
    path = Path(os.path.realpath(expanded(config.runs_dir) / run_id))
    with explained_if_unwritable(path, "The run directory"):
        occupied = path.exists() and any(path.iterdir())
    if occupied:
        if not replace and not is_unbegun(path):
            raise ScopeError(
                f"The run directory {path} exists already. Continue that run with scope train --resume {path}, "
                "move it aside and start anew with --replace, or choose another --run-id."
            )
        _lock(path)
    notes = preflight(config)
    model = find_starting_model(config.model)
    if occupied:
        _clear_the_way(path)
    directory = RunDirectory(path, run_id, config, resumed=False, model=model, notes=tuple(notes))
    try:
        _create(directory)
        _lock(path)
    except BaseException:
        withdraw(directory)
        raise
    return directory


def reopen_run(path: Path, overrides: list[str]) -> RunDirectory:
    """Open the directory of a run to continue it, and lock it for this process.

    overrides: `a.b=c`, changes of its configuration. The directory keeps its configuration until the resumption makes a
    step (`unbegun.begin`). Raises FinishedRun when nothing is left to do, and ScopeError.
    """
    if not (path / CONFIG_FILE).is_file():
        raise ScopeError(f"--resume {path} is not a run directory: it has no {CONFIG_FILE}.")
    path = path.resolve()
    check_format(path)
    stored = stored_config(path / CONFIG_FILE)
    config = config_over(stored.model_dump(mode="json"), overrides)
    _lock(path)
    changed = check_resumption(path, stored, config)
    pinned = config.model_copy(update={"model": _pinned(config.model, path)})
    notes = preflight(pinned, patience_seconds=ORPHAN_SECONDS)
    model = find_starting_model(pinned.model)
    _check_same_model(config.model, model, path)
    directory = RunDirectory(path, path.name, config, resumed=True, model=model, notes=(*changed, *notes))
    _create(directory)
    return directory


def open_run(config_path: Path, overrides: list[str], run_id: str) -> RunDirectory:
    """Continue the run `run_id` if it exists, else begin it with the configuration in `config_path`.

    A directory without a configuration is moved aside, and one in which no step was made is replaced.
    """
    config = load_config(config_path, overrides)
    path = expanded(config.runs_dir) / run_id
    if is_run_id(run_id) and os.path.isfile(path / CONFIG_FILE) and not is_unbegun(path):
        return reopen_run(path, overrides)
    return new_run(config_path, overrides, run_id, replace=True)


def _clear_the_way(path: Path) -> None:
    """Remove a directory in which no step was made, or rename any other one after the time of its last change."""
    if is_unbegun(path):
        remove_unbegun(path)
        return
    aside = path.with_name(
        f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.localtime(path.stat().st_mtime))}"
    )
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _lock(path: Path) -> None:
    """Lock the run until this process ends. Raises ScopeError when another process has locked it."""
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ScopeError(f"The run directory {path} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ScopeError(
            f"The run in {path} is already driven by another process. Stop that one first "
            f"(scope stop --run {path}), or choose another --run-id."
        ) from error


def _pinned(model: ModelConfig, path: Path) -> ModelConfig:
    """Pin the model to the commit that the run began with, even if its branch on the hub has moved since."""
    record = _model_record(path)
    named = (record.get("path"), record.get("revision")) == (model.path, model.revision)
    return model.model_copy(update={"revision": record["commit"]}) if named and record else model


def _check_same_model(configured: ModelConfig, model: StartingModel | None, path: Path) -> None:
    """Raise ScopeError unless the model is the one that the run in `path` began with, in whatever place."""
    record = _model_record(path)
    began_with = record.get("path")
    if (began_with is None) != (model is None):
        raise ScopeError(
            f"model.path = {configured.path!r} is not allowed in a resumption: the run began with "
            f"{'the built-in model' if began_with is None else repr(began_with)}. Resume without this change, or start "
            "a new run."
        )
    if model is None:
        return
    known, found = record.get("files"), model_files(model.directory)
    if known is None and configured.path != began_with:
        raise ScopeError(
            f"model.path = {configured.path!r} is not allowed in a resumption: the run began with {began_with!r} and "
            "recorded no checksums by which another place could be compared. Put the model back in its place."
        )
    if known is not None and (
        other := sorted(f for f in known.keys() | found if known.get(f) != found.get(f))
    ):
        raise ScopeError(
            f"model.path = {configured.path!r} holds another model than the run began with ({began_with!r}): "
            f"{', '.join(other)} {'differs' if len(other) == 1 else 'differ'}. Name the same model, or start a new run."
        )


def _model_record(path: Path) -> dict[str, Any]:
    """The record of the starting model in a run directory; empty for the built-in model."""
    file = path / MODEL_FILE
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ScopeError(
            f"{file}, the record of the run's starting model, cannot be read: {error}. Put back a copy of it."
        ) from error


def _create(directory: RunDirectory) -> None:
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        if not directory.resumed:
            mark_unbegun(directory.path)
        (directory.path / "checkpoints").mkdir(exist_ok=True)
        free = shutil.disk_usage(directory.path).free
        if free < FREE_BYTES:
            raise ScopeError(
                f"runs_dir={directory.config.runs_dir!r} has {free / 2**20:.0f} MiB of disk left; a run needs at "
                f"least {FREE_BYTES / 2**20:.0f} MiB. Free some space or set runs_dir to another disk."
            )
        if not directory.resumed:
            write_format(directory.path)
            directory.write_config()
    except OSError as error:
        raise ScopeError(
            f"runs_dir={directory.config.runs_dir!r} cannot be used: {error.strerror} ({error.filename}). "
            "It must be a directory that this user can write."
        ) from error
