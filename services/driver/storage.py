"""The run directory's place on disk: one sentence when it was removed, is full or can no longer be written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from services.run.directory import CONFIG_FILE
from trainer.checkpoint.store import what_is_safe
from trainer.errors import ScopeError

LEAST_FREE_BYTES = 4 << 20
"""A disk with less free space counts as full: the next write of the queue would fail."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")
_UNWRITABLE = {errno.EROFS, errno.ESTALE}
_UNWRITABLE_TEXTS = ("Read-only file system", "Stale file handle")


class Storage:
    """The directory of one run, which must be there when this is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = _identity(path)

    def check(self) -> None:
        """Raise ScopeError when the directory was removed or replaced, or its disk is full.

        Call it about once a second.
        """
        trouble = self._gone() or self._full()
        if trouble is not None:
            raise trouble

    def explain(self, error: BaseException) -> ScopeError | None:
        """The sentence for a run that ended with `error`, if the cause is the directory or its disk; else None."""
        if (gone := self._gone()) is not None:
            return gone
        errors = list(_chain(error))
        numbers = {found.errno for found in errors if isinstance(found, OSError)}
        said = "\n".join(map(str, errors))
        if numbers & _UNWRITABLE or any(text in said for text in _UNWRITABLE_TEXTS) or self._is_read_only():
            return ScopeError(
                f"The run directory {self._path} can no longer be written, so the run has ended. {self._safe} Make "
                f"its disk writable again, then continue with: scope train --resume {self._path}"
            )
        if numbers & _FULL or any(text in said for text in _FULL_TEXTS):
            return self._disk_is_full()
        return self._full()

    def _gone(self) -> ScopeError | None:
        whole = self._identity == _identity(self._path) and (self._path / CONFIG_FILE).is_file()
        if whole and (self._path / "checkpoints").is_dir():
            return None
        return ScopeError(
            f"The run directory {self._path} was removed or replaced during the run, so the run has ended: it can save "
            "nothing there. Put the directory back and resume it, or start a new run in a directory that stays."
        )

    def _full(self) -> ScopeError | None:
        try:
            free = shutil.disk_usage(self._path).free
        except OSError:
            return None
        return self._disk_is_full() if free < LEAST_FREE_BYTES else None

    def _disk_is_full(self) -> ScopeError:
        return ScopeError(
            f"The disk of the run directory {self._path} is full, so the run has ended. {self._safe} Free some space "
            f"there, then continue with: scope train --resume {self._path}"
        )

    @property
    def _safe(self) -> str:
        return what_is_safe(self._path / "checkpoints")

    def _is_read_only(self) -> bool:
        try:
            return bool(os.statvfs(self._path).f_flag & os.ST_RDONLY)
        except OSError:
            return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
