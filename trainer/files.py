"""A directory that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import ScopeError


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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
