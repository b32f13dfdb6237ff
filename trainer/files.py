"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
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


def give_usual_permissions(directory: Path) -> None:
    """Give a directory and everything below it the permissions of files that are created under the umask.

    Some libraries write files that only their owner may read, or folders that everybody may write. Raises OSError.
    """
    denied = _umask()
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod((0o777 if executable else 0o666) & ~denied)


def _umask() -> int:
    # os.umask would change it for a moment, for every thread of the process.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")
"""as libraries report it that hide the error number"""


@contextmanager
def explained_if_unwritable(place: Path, name: str) -> Iterator[None]:
    """Raise ScopeError, which names `place`, for an error of the block that comes from writing there.

    name: of the option or field that names the place.
    """
    try:
        yield
    except ScopeError:
        raise
    except Exception as error:
        cause = _unwritable(place, error)
        if cause is None:
            raise
        raise ScopeError(
            f"{name} {place} cannot be written: {cause}. Choose another place, or make that one writable."
        ) from error


def _unwritable(place: Path, error: Exception) -> str | None:
    """Why `place` cannot be written, if `error` says so."""
    if text := next((text for text in _FULL_TEXTS if text in str(error)), None):
        return text
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno in (*_FULL, errno.EROFS):
        return error.strerror
    named = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
    ours = (place, _writing(place))
    about = any(
        place.is_relative_to(path) or any(path.is_relative_to(folder) for folder in ours) for path in named
    )
    return error.strerror if about else None


@contextmanager
def new_model_directory(out: Path, *, replace: bool) -> Iterator[Path]:
    """A directory to create and fill with a model, renamed to `out` at the end; removed on an error.

    replace: an earlier model in `out` is replaced. Raises ScopeError, before anything is written, when `out` exists and
    is neither an empty directory nor a model that may be replaced, and when it cannot be written.
    """
    with explained_if_unwritable(out, "--out"), _new_model_directory(out, replace=replace) as writing:
        yield writing


@contextmanager
def _new_model_directory(out: Path, *, replace: bool) -> Iterator[Path]:
    if os.path.lexists(out) and not out.is_dir():
        raise ScopeError(f"--out {out} is not a directory; choose another place.")
    if out.exists() and any(out.iterdir()):
        if not (out / "config.json").is_file():
            raise ScopeError(f"--out {out} is not empty and holds no model; choose another directory.")
        if not replace:
            raise ScopeError(
                f"--out {out} is not empty: replace the model in it with --replace, or choose another "
                "directory."
            )
        with replaced_directory(out) as writing:
            yield writing
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with _beside(out) as writing:
        yield writing
        give_usual_permissions(writing)
        os.replace(writing, out)


@contextmanager
def replaced_directory(directory: Path) -> Iterator[Path]:
    """A directory to create and fill, which takes the place of `directory` at the end; removed on an error."""
    with _beside(directory) as writing:
        yield writing
        give_usual_permissions(writing)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(writing, directory)


def _writing(directory: Path) -> Path:
    return directory.with_name(f".writing-{directory.name}")


@contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    writing = _writing(directory)
    shutil.rmtree(writing, ignore_errors=True)
    try:
        yield writing
    finally:
        shutil.rmtree(writing, ignore_errors=True)
