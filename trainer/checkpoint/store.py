"""The checkpoint store: directories that appear whole or not at all.

A checkpoint is written under a hidden name, every file is fsynced and listed with its SHA-256 in `manifest.json`, then
the directory is renamed. `newest` returns the newest checkpoint whose manifest verifies and skips damaged ones. A
learner that is suspended and replaced may resume and write at any moment: its hidden names differ from its successor's,
and it removes nothing that its successor wrote.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from trainer.errors import ScopeError
from trainer.files import give_usual_permissions, sync, write_atomically

MANIFEST = "manifest.json"
LEAST_FREE_BYTES = 1 << 20
"""A disk with less free space counts as full, because torch does not say why a write failed."""
STATE = "state.json"
BEST = "best.json"
EVALUATED = "evaluated.json"
PREFIX = "step-"
_NAME = re.compile(rf"{PREFIX}([0-9]{{8}}|[1-9][0-9]{{8,17}})")
"""of a checkpoint, as `CheckpointStore._path` makes it"""
ENGINE_TAG = "engine"
"""subdirectory of a checkpoint with DeepSpeed's files"""


class LearnerState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything besides weights and optimizer state that a learner needs to continue."""

    step: int
    """learner steps done"""
    lineage: int
    config_hash: str
    workers: int
    """number of learner ranks that wrote the checkpoint"""
    zero_stage: int
    controller: dict[str, float]
    controller_kind: str | None = None
    """`entropy_control.kind` of the controller; None in a checkpoint that does not say it"""
    regularizer: dict[str, float]
    """state of the regularizer's strength law"""
    regularizer_kind: str | None = None
    """`regularizer.kind` of the strength law; None in a checkpoint that does not say it"""
    curriculum: dict[str, Any] | None = None
    """state of the mixture's curriculum; None without one"""
    entropy_target_generation: int
    starting_entropy: float | None = None
    """policy entropy of the run's first learner step, nats per token; None before it is measured"""
    consumed: list[tuple[str, str]]
    """(entry id, group id) of everything applied and not yet acknowledged"""


class Manifest(msgspec.Struct, frozen=True):
    """SHA-256 of every file, by path relative to the checkpoint."""

    step: int
    files: dict[str, str]


class Best(msgspec.Struct, frozen=True):
    """The checkpoint with the best held-out result so far; the content of `best.json`."""

    step: int
    k: int
    pass_at_k: float


class CheckpointStore:
    """The checkpoints of one run, under one directory. keep: number of newest checkpoints that stay."""

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = keep

    @property
    def directory(self) -> Path:
        """The directory of the checkpoints."""
        return self._directory

    @property
    def best(self) -> Best | None:
        """The best checkpoint; None before the first evaluation."""
        try:
            return msgspec.json.decode((self._directory / BEST).read_bytes(), type=Best)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    @property
    def spared(self) -> set[int]:
        """Steps of the checkpoints that are kept at any age: the best one, and the one that is being evaluated."""
        best, evaluated = self.best, self._evaluated()
        return {step for step in (best and best.step, evaluated) if step is not None}

    def evaluating(self, step: int | None) -> None:
        """Keep the checkpoint of `step`, which may not exist yet, until the next call; None: keep none."""
        if step is None:
            (self._directory / EVALUATED).unlink(missing_ok=True)
        else:
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self._directory / EVALUATED, msgspec.json.encode(step), durable=True)

    def offer(self, candidate: Best) -> bool:
        """Record an evaluated checkpoint as the best if it exists and beats the best; returns whether it does.

        A best checkpoint that was chosen by another k is always replaced.
        """
        best = self.best
        if best is not None and best.k == candidate.k and best.pass_at_k >= candidate.pass_at_k:
            return False
        if not self._path(candidate.step).is_dir():
            return False
        write_atomically(self._directory / BEST, msgspec.json.encode(candidate), durable=True)
        return True

    def writing(self, step: int, lineage: int) -> Path:
        """The hidden directory, made empty, to which the files of checkpoint `step` are written before `commit`."""
        path = self._hidden(step, lineage)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def sweep(self) -> None:
        """Remove unfinished checkpoints of earlier incarnations. Call it after they are fenced off."""
        for path in self._directory.glob(f".writing-{PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, state: LearnerState, check: Callable[[], None]) -> Path:
        """Make the files written for `state` a checkpoint; delete all but the newest `keep` and those in `spared`.

        Checkpoints of later steps are deleted too: they are damaged ones that this lineage did not continue from.

        check: called before anything visible changes; raises when a newer learner has taken over. Raises ScopeError
        when the checkpoint does not verify after it is written.
        """
        writing = self._hidden(state.step, state.lineage)
        (writing / STATE).write_bytes(msgspec.json.encode(state))
        files = {str(p.relative_to(writing)): p for p in sorted(writing.rglob("*")) if p.is_file()}
        manifest = Manifest(state.step, {name: _sha256(path) for name, path in files.items()})
        (writing / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        give_usual_permissions(writing)
        for path in (
            *files.values(),
            writing / MANIFEST,
            *(p for p in writing.rglob("*") if p.is_dir()),
            writing,
        ):
            sync(path)
        final = self._path(state.step)
        if os.path.lexists(final) and not final.is_dir():
            # A file or a link of that name is not ours.
            os.rename(final, self._directory / f"not-a-checkpoint-{final.name}")
        with _opened([final]) as replaced:
            check()
            _remove(replaced)
            # Fails if a successor has begun meanwhile: it swept `writing` before it looked for the newest checkpoint.
            os.rename(writing, final)
        sync(self._directory)
        with _opened(self._superseded(final)) as superseded:
            # A learner fenced off here leaves its checkpoint in place: the successor may have begun from it.
            check()
            if not verifies(final):
                raise ScopeError(
                    f"checkpoint {final} does not verify right after it was written; check the disk."
                )
            _remove(superseded)
        best = self.best
        if best is not None and (best.step == state.step or not self._path(best.step).exists()):
            # The best checkpoint was rolled back: its step was written again, or deleted.
            (self._directory / BEST).unlink()
        return final

    def _superseded(self, newest: Path) -> list[Path]:
        complete, spared = self._complete(), {self._path(step) for step in self.spared}
        step = _step_of(newest)
        older, later = (
            [p for p in complete if _step_of(p) < step],
            [p for p in complete if _step_of(p) > step],
        )
        return [p for p in older[: max(0, len(older) + 1 - self._keep)] if p not in spared] + later

    def adopt(self, step: int, lineage: int) -> Path | None:
        """Make the content of `writing(step, lineage)`, with its manifest, a checkpoint; None if it is damaged.

        Replaces a checkpoint of the same step. For the driver, while no learner runs.
        """
        writing, final = self._hidden(step, lineage), self._path(step)
        if _fault(writing, step) is not None:
            shutil.rmtree(writing)
            return None
        for path in (*writing.rglob("*"), writing):
            sync(path)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(writing, final)
        sync(self._directory)
        return final

    def newest(self, on_damaged: Callable[[Path, str], None] = lambda path, fault: None) -> Path | None:
        """The newest of the last `keep` checkpoints that verifies; None before the first.

        on_damaged: called with each newer checkpoint that is passed over, and what is wrong with it. Raises ScopeError
        when there are some and none verifies: the groups they acknowledged cannot be learned again.
        """
        complete, faults = self._complete()[-self._keep :], []
        for path in reversed(complete):
            fault = fault_of(path)
            if fault is None:
                return path
            faults.append(f"{path.name}: {fault}")
            on_damaged(path, fault)
        if faults:
            raise ScopeError(
                f"None of the {len(complete)} checkpoints in {self._directory} verifies ({'; '.join(faults)}), and "
                "what they had learned cannot be learned again. Put a copy back, or start a new run."
            )
        return None

    def newest_step(self) -> int:
        """Step of the newest checkpoint by name, without verification; 0 before the first."""
        return max(self.steps, default=0)

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints by name, ascending, without verification."""
        return [_step_of(path) for path in self._complete()]

    def _evaluated(self) -> int | None:
        try:
            return msgspec.json.decode((self._directory / EVALUATED).read_bytes(), type=int)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _complete(self) -> list[Path]:
        """The checkpoints by step. What people put beside them, under any other name, is left alone."""
        named = (path for path in self._directory.glob(f"{PREFIX}*") if step_of_name(path.name) is not None)
        return sorted((path for path in named if path.is_dir()), key=_step_of)

    def _path(self, step: int) -> Path:
        return self._directory / f"{PREFIX}{step:08d}"

    def _hidden(self, step: int, lineage: int) -> Path:
        return self._directory / f".writing-{PREFIX}{step:08d}-{lineage}"


@contextmanager
def _opened(checkpoints: Iterable[Path]) -> Iterator[dict[Path, int]]:
    """Open file descriptors of the directories that exist.

    A directory that is open when the fence is checked was made before any successor began; one that has its name later
    may be the successor's.
    """
    with ExitStack() as stack:
        descriptors = {}
        for path in checkpoints:
            with suppress(FileNotFoundError):
                descriptors[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptors[path])
        yield descriptors


def _remove(opened: Mapping[Path, int]) -> None:
    """Delete open directories by content, and their names unless a successor uses them. Errors are ignored."""
    for path, descriptor in opened.items():
        with suppress(OSError):
            for _, folders, files, parent in os.fwalk(".", topdown=False, dir_fd=descriptor):
                for name in files:
                    os.unlink(name, dir_fd=parent)
                for name in folders:
                    os.rmdir(name, dir_fd=parent)
            os.rmdir(path)


def disk_full(directory: Path, error: Exception) -> ScopeError | None:
    """The error to raise in place of `error` if writing to `directory` failed because the disk is full; else None."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and shutil.disk_usage(directory.parent).free >= LEAST_FREE_BYTES:
        return None
    return ScopeError(
        f"The disk of {directory.parent} is full: no checkpoint can be written there ({error}). "
        f"{what_is_safe(directory.parent)} Free some space, then continue with scope train --resume."
    )


def what_is_safe(directory: Path) -> str:
    """A sentence that says which checkpoint a run that ended now continues from. directory: of the checkpoints."""
    try:
        steps = CheckpointStore(directory, keep=1).steps
    except OSError:
        steps = []
    return f"The checkpoint of step {steps[-1]} is safe." if steps else "There is no checkpoint yet."


def queue_is_gone(state: LearnerState, epoch: int) -> ScopeError:
    """The error for a Redis whose learner epochs are behind a checkpoint: it does not hold the run's queue."""
    return ScopeError(
        f"The checkpoint of step {state.step} was made by learner {state.lineage} of this run, but Redis knows only "
        f"{epoch}: the run's queue and data cursor are gone, or redis.url names another server. Restore that Redis "
        "with its append-only file, or start a new run (model.path may name this one's model)."
    )


def read_state(checkpoint: Path) -> LearnerState:
    """The learner state of a checkpoint. Raises OSError or msgspec.DecodeError when it is damaged."""
    return msgspec.json.decode((checkpoint / STATE).read_bytes(), type=LearnerState)


def read_manifest(checkpoint: Path) -> Manifest:
    """The manifest of a checkpoint. Raises OSError or msgspec.DecodeError when it is damaged."""
    return msgspec.json.decode((checkpoint / MANIFEST).read_bytes(), type=Manifest)


def verifies(checkpoint: Path) -> bool:
    """Whether every file that the manifest lists exists with its checksum, and its step is the directory's."""
    return fault_of(checkpoint) is None


def fault_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence; None if it verifies."""
    return _fault(checkpoint, _step_of(checkpoint))


def _fault(folder: Path, step: int) -> str | None:
    try:
        manifest = read_manifest(folder)
    except OSError as error:
        return f"{MANIFEST} cannot be read ({error.strerror})"
    except msgspec.DecodeError:
        return f"{MANIFEST} is damaged"
    if manifest.step != step:
        return f"{MANIFEST} is that of step {manifest.step}"
    for name, digest in manifest.files.items():
        try:
            if _sha256(folder / name) != digest:
                return f"{name} has another content than when it was written"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def step_of_name(name: str) -> int | None:
    """The step of a checkpoint's directory by its name; None for any other name."""
    return int(name.removeprefix(PREFIX)) if _NAME.fullmatch(name) else None


def _step_of(checkpoint: Path) -> int:
    step = step_of_name(checkpoint.name)
    if step is None:
        raise ValueError(f"{checkpoint} is not named like a checkpoint")
    return step


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
