"""Local text files, compressed or not: their lines as UTF-8, and tables of comma- or tab-separated values."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from trainer.errors import ScopeError
from trainer.tasks.datasets.values import BadRow, listed

LONGEST_LINE = 1 << 26
"""bytes"""
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class Record(NamedTuple):
    """One row of a data set."""

    place: str
    """where it is, such as "line 3" """
    row: Mapping[str, Any] | BadRow | None
    """its columns; why it cannot be read; None if it is the exact copy of an earlier one"""


@contextmanager
def opened(path: Path, where: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, decompressed if its name ends in .gz, .bz2, .zst or .lz4. Raises ScopeError, also while
    it is read."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield io.BufferedReader(stream)  # type: ignore[arg-type]
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


def read_table(path: Path, where: str, delimiter: str) -> tuple[list[str], Iterator[Record]]:
    """The names in the first line of a table, and its rows; every value is text. Raises ScopeError."""
    csv.field_size_limit(LONGEST_LINE)
    numbers = [0]

    def lines() -> Iterator[str]:
        for number, line in read_lines(path, where):
            numbers[0] = number
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise ScopeError(f"{where}, line 1: no names of columns: {error}.") from error
    if not header:
        raise ScopeError(f"{where} is empty; the first line of a table names its columns.")
    if len(set(header)) < len(header):
        raise ScopeError(f"{where}, line 1: the names of columns must differ: {listed(header)}.")

    def rows() -> Iterator[Record]:
        while True:
            place = f"line {numbers[0] + 1}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(place, BadRow("the line is not a row of a table", str(error)))
                continue
            if len(row) == len(header):
                yield Record(place, dict(zip(header, row, strict=True)))
            elif row:
                fault = f"{len(row)}, and the first line {len(header)}"
                yield Record(place, BadRow("the line has another number of values than the first", fault))

    return header, rows()


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
