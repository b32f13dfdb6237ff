"""Checkpoints: directories that appear whole or not at all.

A checkpoint is written under a hidden name, every file is fsynced and listed with its SHA-256 in `manifest.json`,
then the directory is renamed. `newest` returns the newest one whose manifest verifies; a damaged one is passed over.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from trainer.errors import ScopeError

MANIFEST = "manifest.json"
STATE = "state.json"
PREFIX = "step-"


class LearnerState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides weights and optimizer that a learner needs to continue."""

    step: int
    """learner steps done"""
    lineage: int
    config_hash: str
    controller: dict[str, float]
    regularizer: dict[str, float]
    """state of its strength law"""
    set_point_generation: int
    starting_entropy: float | None = None
    """of the run's first learner step, nats per token; None while it was not measured"""
    consumed: list[tuple[str, str]]
    """(entry id, group id) of everything applied and not yet acknowledged"""


class Manifest(msgspec.Struct, frozen=True):
    """SHA-256 of every file, by path relative to the checkpoint."""

    step: int
    files: dict[str, str]


class CheckpointStore:
    """The checkpoints of one run, under one directory."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep

    def writing(self, step: int) -> Path:
        """Where the files of checkpoint `step` are to be written before `commit`; emptied if it existed."""
        path = self._directory / f".writing-{PREFIX}{step:08d}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def commit(self, state: LearnerState, check: Callable[[], None]) -> Path:
        """Make the files written for `state.step` a checkpoint, and drop all but the newest `keep`.

        Those of later steps are dropped too: they are what a fall-back passed over, of a lineage that is dead.

        `check` runs just before the rename and raises when this learner may no longer write (fencing). The
        checkpoint is verified before this returns; raises ScopeError when it does not verify.
        """
        writing = self._directory / f".writing-{PREFIX}{state.step:08d}"
        (writing / STATE).write_bytes(msgspec.json.encode(state))
        files = {str(p.relative_to(writing)): p for p in sorted(writing.rglob("*")) if p.is_file()}
        manifest = Manifest(state.step, {name: _sha256(path) for name, path in files.items()})
        (writing / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        for path in (
            *files.values(),
            writing / MANIFEST,
            *(p for p in writing.rglob("*") if p.is_dir()),
            writing,
        ):
            _fsync(path)
        check()
        final = self._directory / f"{PREFIX}{state.step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(writing, final)
        _fsync(self._directory)
        if not verifies(final):
            raise ScopeError(
                f"checkpoint {final} does not verify right after it was written; check the disk."
            )
        complete = self._complete()
        newest = complete.index(final) + 1
        for dropped in (*complete[: max(0, newest - self._keep)], *complete[newest:]):
            shutil.rmtree(dropped)
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint whose manifest verifies, or None."""
        return next((path for path in reversed(self._complete()) if verifies(path)), None)

    def _complete(self) -> list[Path]:
        return sorted(self._directory.glob(f"{PREFIX}*"))


def read_state(checkpoint: Path) -> LearnerState:
    """The learner state of a checkpoint; raises msgspec.DecodeError when it is not one."""
    return msgspec.json.decode((checkpoint / STATE).read_bytes(), type=LearnerState)


def verifies(checkpoint: Path) -> bool:
    """True when every file that the manifest lists is there with its checksum, and its step is the directory's."""
    try:
        manifest = msgspec.json.decode((checkpoint / MANIFEST).read_bytes(), type=Manifest)
        whole = all(_sha256(checkpoint / name) == digest for name, digest in manifest.files.items())
        return whole and checkpoint.name == f"{PREFIX}{manifest.step:08d}"
    except (OSError, msgspec.DecodeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
