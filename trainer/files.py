"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import ScopeError


def write_atomically(path: Path, data: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Replace a file: a reader sees the old content or all of the new, also when this process dies on the way.

    durable: return only when the file would survive a power failure. mode: its permissions, less the umask. One writer
    at a time. Raises OSError.
    """
    writing = path.with_name(f".{path.name}.new")
    writing.unlink(missing_ok=True)
    with os.fdopen(os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(writing, path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Return when a file, or the names in a directory, would survive a power failure. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_directory(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a path beside `out` to build the directory at; it is renamed to `out` if the block succeeds, else removed.

    replace: an `out` that exists is removed just before the rename. Otherwise raises ScopeError, before anything is
    written, when `out` exists and is not an empty directory.
    """
    if not replace and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ScopeError(f"--out {out} exists and is not empty; choose another directory.")
    out.parent.mkdir(parents=True, exist_ok=True)
    writing = out.with_name(f".writing-{out.name}")
    shutil.rmtree(writing, ignore_errors=True)
    try:
        yield writing
        if replace:
            shutil.rmtree(out, ignore_errors=True)
        os.replace(writing, out)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
