"""A second copy of a run's checkpoints on any file system that fsspec supports, such as object storage.

Object storage has no rename, so a checkpoint is complete when it has its manifest, which is uploaded last and removed
first. Folders are named by step and lineage: a suspended learner that resumes does not touch those of its successors.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import msgspec

from trainer.checkpoint.store import (
    BEST,
    MANIFEST,
    CheckpointStore,
    LearnerState,
    read_manifest,
)
from trainer.errors import ScopeError

FOLDER = re.compile(r"step-([0-9]{8,18})-([0-9]{1,18})")
PATIENCE_SECONDS = 300.0
"""How long an operation on one file is retried. The learner continues meanwhile, until its next checkpoint is due."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0

Result = TypeVar("Result")


class CheckpointMirror:
    """The checkpoints of one run under `url`/`run_id`. Methods raise ScopeError, which names `checkpoint.mirror`.

    keep: number of newest checkpoints that stay.
    """

    def __init__(self, url: str, run_id: str, keep: int) -> None:
        self._url, self._keep = url, keep
        self._fs, path = _open(url)
        self._root = f"{path}/{run_id}"

    def put(self, checkpoint: Path, state: LearnerState, spared: set[int], check: Callable[[], None]) -> None:
        """Upload a committed checkpoint, then delete all but the newest ones and those of the steps in `spared`.

        check: called before each file; raises when a newer learner has taken over.
        """
        folder = f"{self._root}/step-{state.step:08d}-{state.lineage}"
        for name in (*read_manifest(checkpoint).files, MANIFEST):
            check()
            self._patiently(
                f"did not take {checkpoint.name}/{name}",
                lambda name=name: self._upload(checkpoint / name, f"{folder}/{name}"),
            )
        check()
        self._patiently("could not be tidied", lambda: self._prune(state.lineage, spared))

    def put_best(self, store: CheckpointStore) -> None:
        """Upload `best.json`, which names the best checkpoint."""
        self._patiently(
            f"did not take {BEST}", lambda: self._upload(store.directory / BEST, f"{self._root}/{BEST}")
        )

    def restore(self, store: CheckpointStore) -> Path | None:
        """Download the newest checkpoint that verifies into the store; None where the mirror has none.

        Raises ScopeError when there are some and none verifies.
        """
        folders = self._patiently("could not be listed", self._complete)
        for step, lineage in reversed(folders):
            folder = f"{self._root}/step-{step:08d}-{lineage}"
            if (restored := self._download(folder, store, step, lineage)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    self._fetch(f"{self._root}/{BEST}", store.directory / BEST)
                return restored
        if folders:
            raise ScopeError(
                f"None of the {len(folders)} checkpoints in checkpoint.mirror={self._url!r} verifies: files are "
                "missing or damaged."
            )
        return None

    def _upload(self, source: Path, target: str) -> None:
        self._fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
        self._fs.put_file(str(source), target)
        self._fs.invalidate_cache()
        arrived, size = self._fs.size(target), source.stat().st_size
        if arrived != size:
            raise OSError(f"{arrived} of {size} bytes of {target} arrived")

    def _download(self, folder: str, store: CheckpointStore, step: int, lineage: int) -> Path | None:
        """Download one checkpoint; None if it is damaged."""
        writing = store.writing(step, lineage)
        try:
            self._fetch(f"{folder}/{MANIFEST}", writing / MANIFEST)
            for name in read_manifest(writing).files:
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise FileNotFoundError(name)
                self._fetch(f"{folder}/{name}", writing / name)
        except (msgspec.DecodeError, FileNotFoundError):
            shutil.rmtree(writing)
            return None
        return store.adopt(step, lineage)

    def _fetch(self, source: str, target: Path) -> None:
        """Download a file. Raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._patiently(
            f"did not return {source}", lambda: self._fs.get_file(source, str(target)), may_miss=True
        )

    def _complete(self) -> list[tuple[int, int]]:
        """(step, lineage) of the checkpoints with a manifest; the one to continue from is last."""
        self._fs.invalidate_cache()
        found = []
        for name in self._names():
            if (match := FOLDER.fullmatch(name)) and self._fs.exists(f"{self._root}/{name}/{MANIFEST}"):
                found.append((int(match[1]), int(match[2])))
        return sorted(found, key=lambda place: (place[1], place[0]))

    def _prune(self, lineage: int, spared: set[int]) -> None:
        kept = self._complete()[-self._keep :]
        for name in self._names():
            match = FOLDER.fullmatch(name)
            if match is None:
                continue
            place = int(match[1]), int(match[2])
            if place in kept or place[0] in spared or place[1] > lineage:
                continue
            folder = f"{self._root}/{name}"
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{folder}/{MANIFEST}")
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(folder, recursive=True)

    def _names(self) -> list[str]:
        try:
            entries = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return [PurePosixPath(entry).name for entry in entries]

    def _patiently(self, fault: str, work: Callable[[], Result], *, may_miss: bool = False) -> Result:
        """Retry for up to `PATIENCE_SECONDS`. may_miss: raise FileNotFoundError at once, as it is."""
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                return work()
            except Exception as error:
                if may_miss and isinstance(error, FileNotFoundError):
                    raise
                permanent = isinstance(error, PermissionError | FileNotFoundError)
                if permanent or time.monotonic() + pause > deadline:
                    raise ScopeError(
                        f"checkpoint.mirror={self._url!r} {fault}: {_sentence(error)}. The checkpoints in the run "
                        "directory are complete. Repair the mirror or unset it, and continue with scope train --resume."
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def check_writable(url: str) -> None:
    """Write and remove a small file at `url`. Raises ScopeError, which names `checkpoint.mirror`."""
    filesystem, path = _open(url)
    probe = f"{path}/.probe-{uuid.uuid4().hex}"
    try:
        filesystem.makedirs(path, exist_ok=True)
        filesystem.pipe_file(probe, b"probe")
        filesystem.rm_file(probe)
    except Exception as error:
        raise ScopeError(
            f"checkpoint.mirror={url!r} cannot be written: {_sentence(error)}. Check the address and the credentials, "
            "or leave checkpoint.mirror unset."
        ) from error


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        if "://" not in url:
            raise ValueError("it is not a URL")
        filesystem, path = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ScopeError(
            f"checkpoint.mirror={url!r} cannot be used: {error}. It must be a URL of a protocol whose fsspec driver is "
            "installed where the run starts and where the learner runs, such as file:///mnt/share, s3://bucket/folder "
            "(package s3fs) or gs://bucket/folder (package gcsfs)."
        ) from error
    return filesystem, path.rstrip("/")


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
