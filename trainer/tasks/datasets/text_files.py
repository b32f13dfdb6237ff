"""The lines of local text files in UTF-8, compressed or not."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import ScopeError

LONGEST_LINE = 1 << 26
"""bytes"""
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@contextmanager
def opened(path: Path, where: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, decompressed by its name's ending. Raises ScopeError, also while it is read."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield io.BufferedReader(stream)
    except OSError as error:
        raise ScopeError(f"{where} cannot be read: {error}.") from error


def read_lines(path: Path, where: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its end) of each line. Raises ScopeError for a line that is too long or not UTF-8."""
    with opened(path, where) as stream:
        number = 0
        while chunk := stream.readline(LONGEST_LINE + 1):
            if len(chunk) > LONGEST_LINE:
                raise ScopeError(
                    f"{where}, line {number + 1}: longer than {LONGEST_LINE >> 20} MiB, the longest line of a data set."
                )
            # A carriage return alone ends a line too.
            for line in chunk.splitlines(keepends=True):
                number += 1
                yield number, _decoded(line, number, where)


def read_text(path: Path, where: str) -> str:
    """The whole text. Raises ScopeError if it is not UTF-8."""
    with opened(path, where) as stream:
        lines = stream.read().splitlines(keepends=True)
    return "".join(_decoded(line, number, where) for number, line in enumerate(lines, 1))


def _decoded(line: bytes, number: int, where: str) -> str:
    advice = "Convert it: iconv -f {} -t UTF-8 FILE > NEW"
    if number == 1:
        for mark, name in _MARKS:
            if line.startswith(mark):
                raise ScopeError(f"{where}, line 1, byte 1: {name}, not UTF-8. {advice.format(name)}.")
        if b"\0" in line[:4]:
            raise ScopeError(
                f"{where}, line 1, byte {line.index(0) + 1}: a NUL byte, as in UTF-16. {advice.format('UTF-16LE')}."
            )
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ScopeError(
            f"{where}, line {number}, byte {error.start + 1}: not UTF-8 (0x{line[error.start]:02X}). "
            f"{advice.format('WINDOWS-1252')}, or with LATIN1, or the encoding that it has."
        ) from error
