"""Rows of local tables of comma- or tab-separated values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import ScopeError
from trainer.tasks.datasets.records import BadRow, Record, listed
from trainer.tasks.datasets.text_files import LONGEST_LINE, read_lines


def read_table(path: Path, where: str, delimiter: str) -> tuple[list[str], Iterator[Record]]:
    """The names in the first line of a table, and its rows; every value is text. Raises ScopeError."""
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader((line for _, line in read_lines(path, where)), delimiter=delimiter, strict=True)
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
            place = f"line {reader.line_num + 1}"
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
