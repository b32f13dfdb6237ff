"""Unpacks the records of runs from an archive that may come from a stranger.

Only regular files with the names in `WANTED` are written, under names that this module makes: no path, link, owner or
mode of the archive has an effect. What is written, what is read on the way, and how many runs there are, is bounded.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from services.recorded.recorded_run import REPORT, STEPS
from services.recorded.saved_state import FILE as STATE
from services.records.sampled_rollouts import FILE as ROLLOUTS
from services.records.sampled_rollouts import OLDER_FILE as OLDER_ROLLOUTS
from services.results.evaluations import EVALUATIONS
from services.run.directory import CONFIG_FILE, FORMAT_FILE
from services.run.ids import is_run_id
from trainer.errors import ScopeError

MIB = 1 << 20
WANTED = {
    CONFIG_FILE: MIB,
    FORMAT_FILE: MIB,
    STATE: 64 * MIB,
    STEPS: 256 * MIB,
    EVALUATIONS: 64 * MIB,
    ROLLOUTS: 256 * MIB,
    OLDER_ROLLOUTS: 256 * MIB,
    REPORT: 16 * MIB,
}
"""file of a run directory → most bytes of it that are unpacked"""
MOST_BYTES = 2048 * MIB
"""bytes that one archive may unpack to"""
MOST_FOLDERS, MOST_MEMBERS = 1000, 100_000
"""folders with wanted files, and files of every kind, that one archive may have"""
FREE_BYTES, MOST_RATIO = 1024 * MIB, 100
"""An archive whose contents exceed the first and the second times its own size is taken for one that is made to exhaust
the reader. Step records shrink to about a tenth, model weights hardly."""
LARGEST_READ = 16 * MIB
"""`tarfile` reads a header of any announced size at once."""
PIECE = MIB


class Source(Protocol):
    """What is read of a decompressed archive."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, position: int, /) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...


_OPENERS: dict[str, Callable[[Path], Source]] = {
    ".tar": io.FileIO,
    ".tar.gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".tar.bz2": bz2.BZ2File,
    ".tar.xz": lzma.LZMAFile,
    ".tar.zst": lambda path: _zstandard(path),
}
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    # Of zipfile: an encrypted entry, and a method that is not known.
    RuntimeError,
    # Of tarfile: numbers in headers.
    ValueError,
)


class _TooLarge(Exception):
    pass


def is_archive(path: Path) -> bool:
    """Whether the name of a file is that of an archive that `unpack` reads."""
    return path.name.endswith((".zip", *_OPENERS))


def unpack(archive: Path, folder: Path) -> None:
    """Write each run directory of the archive, without checkpoints and models, into `folder` as a directory of its own.

    The records of a run at the root of the archive are written into `folder` itself. Raises ScopeError for an archive
    that cannot be read, and for one that is too large.
    """
    try:
        if archive.name.endswith(".zip"):
            _unpack_zip(archive, _Writer(folder))
        else:
            _unpack_tar(archive, _Writer(folder))
    except _TooLarge as error:
        raise ScopeError(
            f"{archive} is not unpacked: {error}. Unpack it yourself if you trust it, and name the directory."
        ) from error
    except _DAMAGED as error:
        raise ScopeError(f"{archive} cannot be read as an archive: {error}.") from error


class _Writer:
    """Writes the wanted files of an archive, within the bounds."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._written, self._passed = folder, 0, 0
        self._places: dict[PurePosixPath, Path] = {}

    def wants(self, name: str) -> bool:
        """Whether the next member of the archive is a file of a run directory."""
        self._passed += 1
        if self._passed > MOST_MEMBERS:
            raise _TooLarge(f"it has more than {MOST_MEMBERS:,} files")
        return PurePosixPath(name).name in WANTED

    def write(self, name: str, content: IO[bytes]) -> None:
        """Write a wanted member."""
        path = PurePosixPath(name)
        left = WANTED[path.name]
        with (self._place(path.parent) / path.name).open("wb") as file:
            while piece := content.read(PIECE):
                left -= len(piece)
                self._written += len(piece)
                if left < 0:
                    raise _TooLarge(f"its {path.name} has more than {WANTED[path.name]:,} bytes")
                if self._written > MOST_BYTES:
                    raise _TooLarge(f"its records have more than {MOST_BYTES:,} bytes")
                file.write(piece)

    def _place(self, parent: PurePosixPath) -> Path:
        """The directory for the files of one folder of the archive, with its name where that may be a run id."""
        if parent in self._places:
            return self._places[parent]
        if len(self._places) == MOST_FOLDERS:
            raise _TooLarge(f"it has more than {MOST_FOLDERS:,} run directories")
        if parent in (PurePosixPath("."), PurePosixPath("/")):
            place = self._folder
        else:
            name = parent.name if is_run_id(parent.name) else "run"
            taken = set(self._places.values())
            place, number = self._folder / name, 2
            while place in taken:
                place, number = self._folder / f"{name[:120]}-{number}", number + 1
        place.mkdir(exist_ok=True)
        self._places[parent] = place
        return place


class _Bounded:
    """A decompressed archive that is read forwards, within the bounds."""

    def __init__(self, source: Source, compressed: int) -> None:
        self._source, self._most = source, FREE_BYTES + MOST_RATIO * compressed

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise _TooLarge(f"it has a header of {size:,} bytes")
        self._check(self.tell() + size)
        return self._source.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._source.seek(position)

    def tell(self) -> int:
        return self._source.tell()

    def _check(self, end: int) -> None:
        if end > self._most:
            raise _TooLarge(
                f"it unpacks to more than {self._most:,} bytes, over {MOST_RATIO} times its own size"
            )


def _unpack_tar(archive: Path, writer: _Writer) -> None:
    source = next(opener for ending, opener in _OPENERS.items() if archive.name.endswith(ending))(archive)
    try:
        bounded = cast("IO[bytes]", _Bounded(source, archive.stat().st_size))
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if writer.wants(member.name) and member.isreg() and not member.issparse():
                    content = tar.extractfile(member)
                    assert content is not None
                    writer.write(member.name, content)
    finally:
        source.close()


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as files:
        for member in files.infolist():
            if not member.is_dir() and writer.wants(member.filename):
                with files.open(member) as content:
                    writer.write(member.filename, content)


def _zstandard(path: Path) -> Source:
    # Imported here, because it takes long to import and few archives need it.
    import pyarrow

    return _Forwards(cast("Source", pyarrow.input_stream(path, compression="zstd")))


class _Forwards:
    """Lets a stream that cannot seek be sought forwards."""

    def __init__(self, stream: Source) -> None:
        self._stream, self._at = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def seek(self, position: int) -> int:
        while self._at < position and self.read(min(PIECE, position - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._stream.close()
