"""Creates, replaces or reopens the run directory `runs/<id>/`, before anything expensive starts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

from services.checks.preflight import preflight
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
from trainer.config.load import dump_yaml, load_config
from trainer.errors import ScopeError
from trainer.files import write_atomically
from trainer.starting_model.find import find_starting_model

ORPHAN_SECONDS = 30.0
"""The processes of a killed driver end within this time; until then they hold the run's ports."""


def new_run(config_path: Path, overrides: list[str], run_id: str | None, *, replace: bool) -> RunDirectory:
    """Create the directory of a new run and lock it for this process. Changes nothing before every check has passed.

    replace: move an existing directory aside. Raises ScopeError, without `replace` also for an existing directory.
    """
    config = load_config(config_path, overrides)
    run_id = run_id or f"{config_path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not is_run_id(run_id):
        raise ScopeError(
            f"run id = {run_id!r} is not allowed: it must be 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit."
        )
    path = (Path(config.runs_dir) / run_id).resolve()
    if path.exists() and any(path.iterdir()):
        if not replace:
            raise ScopeError(
                f"The run directory {path} exists already. Continue that run with scope train --resume {path}, "
                "move it aside and start anew with --replace, or choose another --run-id."
            )
        _lock(path)
    notes = preflight(config)
    model = find_starting_model(config.model)
    if path.exists() and any(path.iterdir()):
        aside = path.with_name(
            f"{run_id}.{time.strftime('%Y%m%d-%H%M%S', time.localtime(path.stat().st_mtime))}"
        )
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    directory = RunDirectory(path, run_id, config, resumed=False, model=model, notes=tuple(notes))
    _create(directory)
    _lock(path)
    return directory


def reopen_run(path: Path, overrides: list[str]) -> RunDirectory:
    """Open the directory of a run to continue it, and lock it for this process.

    overrides: `a.b=c`, changes of its configuration. Raises ScopeError.
    """
    if not (path / CONFIG_FILE).is_file():
        raise ScopeError(f"--resume {path} is not a run directory: it has no {CONFIG_FILE}.")
    path = path.resolve()
    check_format(path)
    config = load_config(path / CONFIG_FILE, overrides)
    _lock(path)
    pinned = config.model_copy(update={"model": _pinned(config.model, path)})
    notes = preflight(pinned, patience_seconds=ORPHAN_SECONDS)
    model = find_starting_model(pinned.model)
    directory = RunDirectory(path, path.name, config, resumed=True, model=model, notes=tuple(notes))
    _create(directory)
    return directory


def open_run(config_path: Path, overrides: list[str], run_id: str) -> RunDirectory:
    """Continue the run `run_id` if it exists, else begin it with the configuration in `config_path`.

    A directory without a configuration is moved aside.
    """
    config = load_config(config_path, overrides)
    path = Path(config.runs_dir) / run_id
    if is_run_id(run_id) and (path / CONFIG_FILE).is_file():
        return reopen_run(path, overrides)
    return new_run(config_path, overrides, run_id, replace=True)


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
    if not (path / MODEL_FILE).is_file():
        return model
    record = json.loads((path / MODEL_FILE).read_text())
    named = (record["path"], record["revision"]) == (model.path, model.revision)
    return model.model_copy(update={"revision": record["commit"]}) if named else model


def _create(directory: RunDirectory) -> None:
    try:
        (directory.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory.path).free
        if free < FREE_BYTES:
            raise ScopeError(
                f"runs_dir={directory.config.runs_dir!r} has {free / 2**20:.0f} MiB of disk left; a run needs at "
                f"least {FREE_BYTES / 2**20:.0f} MiB. Free some space or set runs_dir to another disk."
            )
        write_format(directory.path)
        write_atomically(directory.path / CONFIG_FILE, dump_yaml(directory.config).encode())
        if (model := directory.model) is not None:
            named = {"path": directory.config.model.path, "revision": directory.config.model.revision}
            found = {"commit": model.commit, "directory": str(model.directory)}
            directory.write_json(MODEL_FILE, named | found)
    except OSError as error:
        raise ScopeError(
            f"runs_dir={directory.config.runs_dir!r} cannot be used: {error.strerror} ({error.filename}). "
            "It must be a directory that this user can write."
        ) from error
