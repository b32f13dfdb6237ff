"""A row as a reader gives it: its columns, or why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple


class BadRow(Exception):
    """A row that cannot be used. kind: why, a clause that is the same for rows with the same fault."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class Record(NamedTuple):
    """One row of a data set."""

    place: str
    """where it is, such as "line 3" """
    row: Mapping[str, Any] | BadRow | None
    """its columns; why it cannot be read; None if it is the exact copy of an earlier one"""


class MissingError(BadRow):
    """A row that has no value of a name."""


class Numeral(str):
    """A number as the data writes it, such as `0.10` or `1e-07`."""

    __slots__ = ()


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Numeral):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, datetime):
        return "a timestamp"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


def listed(names: Iterable[Any]) -> str:
    """Names of columns, at most ten, that every terminal can print."""
    shown = [str(name)[:40].encode(errors="backslashreplace").decode() for name in names]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return (", ".join(shown[:10]) or "nothing") + more
