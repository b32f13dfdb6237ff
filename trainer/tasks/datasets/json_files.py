"""Rows of local JSON files: a line each, or one document that is, or holds, a list of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.errors import ScopeError
from trainer.tasks.datasets.json_text import parse_json, parse_rows
from trainer.tasks.datasets.records import BadRow, Record, kind_of, listed
from trainer.tasks.datasets.text_files import opened, read_lines, read_text


def read_json(path: Path, where: str, column: str) -> Iterator[Record]:
    """The rows. column: of the problem, by which a row is told from an object that holds a list of rows.

    Raises ScopeError for a document that is not JSON or has no rows.
    """
    document = _document(path, where, column)
    if document is not None:
        for number, row in enumerate(document, 1):
            yield Record(f"row {number}", _checked(row))
        return
    for number, line in read_lines(path, where):
        if not line.isspace():
            yield Record(f"line {number}", _parsed(line.rstrip("\r\n")))


def _parsed(line: str) -> Mapping[str, Any] | BadRow:
    try:
        return _checked(parse_json(line))
    except BadRow as fault:
        return fault
    except json.JSONDecodeError as error:
        return BadRow("the line is not JSON", f"column {error.colno}: {error.msg}")
    except ValueError as error:
        return BadRow("the line is not JSON", str(error))


def _checked(row: Any) -> Mapping[str, Any] | BadRow:
    if isinstance(row, Mapping | BadRow):
        return row
    return BadRow("the row is not an object with columns", f"it is {kind_of(row)}")


def _document(path: Path, where: str, column: str) -> list[Any] | None:
    """The rows of a file that is one JSON document; None for a file with a row in each line."""
    if _first_character(path, where) == "[":
        return _whole(path, where)
    head = list(islice((line for _, line in read_lines(path, where) if not line.isspace()), 2))
    if not head or not head[0].lstrip().startswith("{"):
        return None
    try:
        found = parse_rows(head[0])
    except ValueError:
        found = _over_lines(path, where)
        return None if found is None else _rows_in(found, where, column) or [found]
    return _rows_in(found, where, column) if len(head) == 1 else None


def _rows_in(found: Any, where: str, column: str) -> list[Any] | None:
    """The list of rows that an object holds; None if it is a row itself."""
    if not isinstance(found, Mapping) or column in found:
        return None
    held = [key for key, value in found.items() if _are_rows(value)]
    if len(held) > 1:
        raise ScopeError(
            f"{where} holds several lists of rows ({listed(held)}): write one to a file of its own."
        )
    return found[held[0]] if held else None


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _over_lines(path: Path, where: str) -> Any:
    """The object that begins in the first line and ends in a later one; None if the first line is a faulty row."""
    try:
        return parse_rows(read_text(path, where))
    except json.JSONDecodeError as error:
        if error.lineno == 1:
            return None
        raise _not_json(where, error) from error
    except ValueError:
        return None


def _whole(path: Path, where: str) -> Any:
    try:
        return parse_rows(read_text(path, where))
    except json.JSONDecodeError as error:
        raise _not_json(where, error) from error
    except ValueError as error:
        raise ScopeError(f"{where} is not JSON: {error}.") from error


def _not_json(where: str, error: json.JSONDecodeError) -> ScopeError:
    return ScopeError(f"{where}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}).")


def _first_character(path: Path, where: str) -> str:
    with opened(path, where) as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1].decode(errors="replace")
