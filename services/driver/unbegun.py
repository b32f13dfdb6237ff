"""Run directories in which no learner step was made: a start that failed or was stopped must not block the next one.

A start marks the directory that it creates, and takes the mark away after the first step.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from services.access.run_secrets import RunSecrets
from services.run.directory import RunDirectory
from trainer.checkpoint.store import CheckpointStore

MARK = ".unbegun"


def mark_unbegun(path: Path) -> None:
    """Mark a directory that was just created. Raises OSError."""
    (path / MARK).touch()


def mark_begun(path: Path) -> None:
    """Record that the run in `path` has made a step. Raises OSError."""
    (path / MARK).unlink(missing_ok=True)


def begin(directory: RunDirectory) -> None:
    """Record that this start of the run has made a step: from here on its configuration is that of the directory.

    Raises OSError.
    """
    mark_begun(directory.path)
    if directory.resumed:
        directory.write_config()


def is_unbegun(path: Path) -> bool:
    """Whether a start created the directory and made no step in it."""
    steps = path / "steps.jsonl"
    stepped = (steps.exists() and steps.stat().st_size > 0) or bool(
        CheckpointStore(path / "checkpoints", keep=1).steps
    )
    return (path / MARK).exists() and not stepped


def withdraw(directory: RunDirectory, error: BaseException | None = None) -> bool:
    """Remove the directory of a start that ended before the first step; returns whether it is gone.

    It stays when it was there before, when it holds a step, and when files in it may explain `error`.
    """
    path = directory.path
    if directory.resumed:
        return False
    if not path.exists():
        return True
    if not is_unbegun(path):
        return False
    if error is not None and ((path / "logs").exists() or str(path) in str(error)):
        return False
    remove_unbegun(path)
    return True


def remove_unbegun(path: Path) -> None:
    """Remove a directory without a step, and the secrets of its run."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(RunSecrets(path).directory, ignore_errors=True)
