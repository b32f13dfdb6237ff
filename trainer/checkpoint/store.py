"""Checkpoints: directories that appear whole or not at all.

A checkpoint is written under a hidden name, every file is fsynced and listed with its SHA-256 in `manifest.json`,
then the directory is renamed. `newest` returns the newest one whose manifest verifies; a damaged one is passed over.
A learner that was replaced while it was frozen may go on writing at any moment: it shares no hidden name with its
successor, and removes nothing of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from trainer.errors import ScopeError

MANIFEST = "manifest.json"
LEAST_FREE_BYTES = 1 << 20
"""A disk with less is called full: torch does not say why a write failed."""
STATE = "state.json"
BEST = "best.json"
EVALUATED = "evaluated.json"
PREFIX = "step-"


class LearnerState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides weights and optimizer that a learner needs to continue."""

    step: int
    """learner steps done"""
    lineage: int
    config_hash: str
    workers: int
    """learner ranks that wrote their parts"""
    zero_stage: int
    controller: dict[str, float]
    regularizer: dict[str, float]
    """state of its strength law"""
    curriculum: dict[str, Any] | None = None
    """state of the mixture's curriculum, where there is one"""
    entropy_target_generation: int
    starting_entropy: float | None = None
    """of the run's first learner step, nats per token; None while it was not measured"""
    consumed: list[tuple[str, str]]
    """(entry id, group id) of everything applied and not yet acknowledged"""


class Manifest(msgspec.Struct, frozen=True):
    """SHA-256 of every file, by path relative to the checkpoint."""

    step: int
    files: dict[str, str]


class Best(msgspec.Struct, frozen=True):
    """The checkpoint with the best held-out result so far, as it is in `best.json`."""

    step: int
    k: int
    pass_at_k: float


class CheckpointStore:
    """The checkpoints of one run, under one directory."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep

    @property
    def directory(self) -> Path:
        """Where they are."""
        return self._directory

    @property
    def best(self) -> Best | None:
        """Which one is the best; None while none was evaluated."""
        try:
            return msgspec.json.decode((self._directory / BEST).read_bytes(), type=Best)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    @property
    def spared(self) -> set[int]:
        """Steps of those that stay however old they are: the best, and the one that is being evaluated."""
        best, evaluated = self.best, self._evaluated()
        return {step for step in (best and best.step, evaluated) if step is not None}

    def evaluating(self, step: int | None) -> None:
        """Let a checkpoint stay, whether it is here yet or not, until another is evaluated, or none."""
        if step is None:
            (self._directory / EVALUATED).unlink(missing_ok=True)
        else:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._replace(EVALUATED, step)

    def offer(self, candidate: Best) -> bool:
        """Note an evaluated checkpoint if it is here and better than the best; whether it was.

        One that was chosen by another k gives way.
        """
        best = self.best
        if best is not None and best.k == candidate.k and best.pass_at_k >= candidate.pass_at_k:
            return False
        if not self._path(candidate.step).is_dir():
            return False
        self._replace(BEST, candidate)
        return True

    def writing(self, step: int, lineage: int) -> Path:
        """Where the files of checkpoint `step` are to be written before `commit`; empty."""
        path = self._hidden(step, lineage)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def sweep(self) -> None:
        """Remove what earlier incarnations could not finish; for a learner that begins, after it fenced them off."""
        for path in self._directory.glob(f".writing-{PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, state: LearnerState, check: Callable[[], None]) -> Path:
        """Make the files written for `state` a checkpoint, and drop all but the newest `keep` and what is spared.

        Those of later steps are dropped too: they are what a fall-back passed over, of a lineage that is dead.

        `check` runs before anything visible changes and raises when this learner may no longer write (fencing). The
        checkpoint is verified before this returns; raises ScopeError when it does not verify.
        """
        writing = self._hidden(state.step, state.lineage)
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
        final = self._path(state.step)
        with _opened([final]) as replaced:
            check()
            _remove(replaced)
            # Fails when a successor has begun meanwhile: it swept `writing` away before it looked for the newest.
            os.rename(writing, final)
        _fsync(self._directory)
        with _opened(self._superseded(final)) as superseded:
            # Whoever is fenced off here leaves its checkpoint: the successor may have begun from it.
            check()
            if not verifies(final):
                raise ScopeError(
                    f"checkpoint {final} does not verify right after it was written; check the disk."
                )
            _remove(superseded)
        best = self.best
        if best is not None and (best.step == state.step or not self._path(best.step).exists()):
            # What was evaluated was taken back.
            (self._directory / BEST).unlink()
        return final

    def _superseded(self, newest: Path) -> list[Path]:
        complete, spared = self._complete(), {self._path(step) for step in self.spared}
        older, later = [p for p in complete if p < newest], [p for p in complete if p > newest]
        return [p for p in older[: max(0, len(older) + 1 - self._keep)] if p not in spared] + later

    def adopt(self, step: int, lineage: int) -> Path | None:
        """Make what lies in `writing(step, lineage)`, manifest included, a checkpoint; None where it is damaged.

        One of that step is replaced. For a driver, while no learner runs.
        """
        writing, final = self._hidden(step, lineage), self._path(step)
        if not _whole(writing, step):
            shutil.rmtree(writing)
            return None
        for path in (*writing.rglob("*"), writing):
            _fsync(path)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(writing, final)
        _fsync(self._directory)
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint whose manifest verifies, or None before the first; an old one kept as the best is none.

        Raises ScopeError when there are some and none verifies: what they acknowledged cannot be learned again.
        """
        complete = self._complete()[-self._keep :]
        found = next((path for path in reversed(complete) if verifies(path)), None)
        if found is None and complete:
            raise ScopeError(
                f"None of the {len(complete)} checkpoints in {self._directory} verifies: files are missing or "
                "damaged, and what they had learned cannot be learned again. Put a copy back, or start a new run."
            )
        return found

    def newest_step(self) -> int:
        """The step of the newest checkpoint by name, not verified; 0 before the first."""
        complete = self._complete()
        return int(complete[-1].name.removeprefix(PREFIX)) if complete else 0

    def _evaluated(self) -> int | None:
        try:
            return msgspec.json.decode((self._directory / EVALUATED).read_bytes(), type=int)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _replace(self, name: str, content: Any) -> None:
        """Write a file of JSON whole."""
        writing = self._directory / f".{name}.new"
        writing.write_bytes(msgspec.json.encode(content))
        _fsync(writing)
        os.replace(writing, self._directory / name)
        _fsync(self._directory)

    def _complete(self) -> list[Path]:
        return sorted(self._directory.glob(f"{PREFIX}*"))

    def _path(self, step: int) -> Path:
        return self._directory / f"{PREFIX}{step:08d}"

    def _hidden(self, step: int, lineage: int) -> Path:
        return self._directory / f".writing-{PREFIX}{step:08d}-{lineage}"


@contextmanager
def _opened(checkpoints: Iterable[Path]) -> Iterator[dict[Path, int]]:
    """Descriptors of those that are there.

    What is open when the fence is checked was made before any successor began; what bears its name later may be a
    successor's.
    """
    with ExitStack() as stack:
        descriptors = {}
        for path in checkpoints:
            with suppress(FileNotFoundError):
                descriptors[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptors[path])
        yield descriptors


def _remove(opened: Mapping[Path, int]) -> None:
    """Remove directories, and their names where nothing else bears them by now. What cannot be removed stays."""
    for path, descriptor in opened.items():
        with suppress(OSError):
            for _, folders, files, parent in os.fwalk(".", topdown=False, dir_fd=descriptor):
                for name in files:
                    os.unlink(name, dir_fd=parent)
                for name in folders:
                    os.rmdir(name, dir_fd=parent)
            os.rmdir(path)


def disk_full(directory: Path, error: Exception) -> ScopeError | None:
    """What to raise in place of an error while a checkpoint is written, when the reason is a full disk."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and shutil.disk_usage(directory.parent).free >= LEAST_FREE_BYTES:
        return None
    return ScopeError(
        f"The disk of {directory.parent} is full: no checkpoint can be written there ({error}). The newest "
        "complete one is safe. Free some space, then continue with scope train --resume."
    )


def queue_is_gone(state: LearnerState, epoch: int) -> ScopeError:
    """The refusal of a Redis whose learner epochs are behind a checkpoint: it is not the one that the run had."""
    return ScopeError(
        f"The checkpoint of step {state.step} was made by learner {state.lineage} of this run, but Redis knows "
        f"{epoch} so far: the run's queue and data cursor are gone, or redis.url names another server. Bring that "
        "Redis with its append-only file back, or start a new run (model.path may name this one's model)."
    )


def read_state(checkpoint: Path) -> LearnerState:
    """The learner state of a checkpoint; raises msgspec.DecodeError when it is not one."""
    return msgspec.json.decode((checkpoint / STATE).read_bytes(), type=LearnerState)


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint; raises OSError or msgspec.DecodeError when it is damaged."""
    return msgspec.json.decode((checkpoint / MANIFEST).read_bytes(), type=Manifest)


def verifies(checkpoint: Path) -> bool:
    """True when every file that the manifest lists is there with its checksum, and its step is the directory's."""
    return _whole(checkpoint, int(checkpoint.name.removeprefix(PREFIX)))


def _whole(checkpoint: Path, step: int) -> bool:
    try:
        manifest = read_manifest(checkpoint)
        whole = all(_sha256(checkpoint / name) == digest for name, digest in manifest.files.items())
        return whole and manifest.step == step
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


ENGINE_TAG = "engine"
