"""Values of a row: JSON that keeps how numbers are written, nested names, answers as text, plain values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

_WHOLE = re.compile(r"-?[0-9]+")
_MATHEMATICS = re.compile(r"(?<!\\)\$")
_LOOKS_VERL = re.compile(r"""\s*\{.*['"]ground_truth['"]\s*:""", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
TOO_DEEP = "too many brackets inside each other"
GROUND_TRUTH = "ground_truth"
"""the answer in a mapping that a column of answers holds (as in verl)"""


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


def parse_json(text: str) -> Any:
    """The JSON value in `text`, with numbers (also NaN and Infinity) as `Numeral`.

    Raises ValueError for text that is not JSON or too deep, and BadRow for an object that has a key twice.
    """
    found = parse_rows(text)
    try:
        fault = _fault_in(found)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if fault is not None:
        raise fault
    return found


def parse_rows(text: str) -> Any:
    """Like `parse_json`, with a BadRow in place of the outermost object around one that has a key twice."""
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=Numeral, parse_float=Numeral, parse_constant=Numeral
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """The value at `name`: a key of the row, or dots between keys and list positions, also in JSON text.

    Raises MissingError if there is none.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        try:
            if isinstance(value, str):
                value = parse_json(value)
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            has = f"it has {listed(value)}" if isinstance(value, Mapping) else f"{part!r} is not in it"
            raise MissingError(f"there is no {name!r}", has) from None
    return value


def answer_text(value: Any, name: str) -> str:
    """The answer in `value`, as the data writes it; elements of a list are joined by commas, without `$`.

    Of a mapping with `ground_truth`, that entry. Raises BadRow if there is no answer, or none that is text.
    """
    value = _unpacked(value, name)
    if isinstance(value, list):
        texts = [_MATHEMATICS.sub("", scalar_text(one, name)).strip() for one in value]
        if not texts or not all(texts):
            raise BadRow(f"{name!r} is a list without elements, or with an empty one")
        return ", ".join(texts)
    text = scalar_text(value, name).strip()
    if not text:
        raise BadRow(f"{name!r} is empty")
    return text


def plain(value: Any, name: str) -> Any:
    """`value` of Python's own types: numerals as int or float, NaN as None, times as text.

    Raises BadRow for what JSON cannot hold: an infinite number, or text that is not Unicode.
    """
    if isinstance(value, Numeral):
        number = _number(value, name)
        if isinstance(number, float) and math.isinf(number):
            raise BadRow(f"{name!r} is not a finite number", str(value)[:40])
        return None if isinstance(number, float) and math.isnan(number) else number
    if isinstance(value, str):
        return checked(value, name)
    if isinstance(value, Mapping):
        return {checked(str(key), name): plain(one, name) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one, name) for one in value]
    return value if value is None or isinstance(value, bool) else _other(value, name)


def checked(text: str, name: str) -> str:
    """`text`. Raises BadRow for a NUL character, or half of a surrogate pair, which no UTF-8 text can hold."""
    if "\0" in text:
        raise BadRow(f"{name!r} contains a NUL character")
    if (half := _SURROGATE.search(text)) is not None:
        raise BadRow(f"{name!r} contains half of a surrogate pair", f"\\u{ord(half[0]):04x}")
    return text


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
        return f"a mapping of {listed(value)}" if value else "an empty mapping"
    if isinstance(value, datetime):
        return "a timestamp"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


def listed(names: Iterable[Any]) -> str:
    """Names of columns, at most ten."""
    shown = [str(name)[:40] for name in names]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return (", ".join(shown[:10]) or "nothing") + more


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        return BadRow("an object has a key twice", repr(twice[:40]))
    return next((fault for value in found.values() if (fault := _fault_in(value)) is not None), found)


def _fault_in(value: Any) -> BadRow | None:
    """The fault of an object that was parsed, directly or in lists."""
    if isinstance(value, list):
        return next((fault for one in value if (fault := _fault_in(one)) is not None), None)
    return value if isinstance(value, BadRow) else None


def _unpacked(value: Any, name: str) -> Any:
    """The value, or its `ground_truth` if it is a mapping, or JSON text of one, that has it."""
    found = value
    if isinstance(value, str) and _LOOKS_VERL.match(value):
        try:
            found = parse_json(value)
        except ValueError:
            raise BadRow(f"{name!r} looks like a mapping with {GROUND_TRUTH!r}, but is not JSON") from None
    return found[GROUND_TRUTH] if isinstance(found, Mapping) and GROUND_TRUTH in found else value


def scalar_text(value: Any, name: str) -> str:
    """The text of one value, as the data writes it. Raises BadRow for null and what has no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Numeral) and not value.lstrip("-")[:1].isdigit():
        raise BadRow(f"{name!r} is not a finite number", value)
    if isinstance(value, str):
        return checked(str(value), name)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if value is None:
        raise BadRow(f"{name!r} is null")
    if isinstance(value, Mapping) and value:
        such = f"it has {listed(value)}, written {name}.{next(iter(value))} and so on"
        raise BadRow(f"{name!r} is a mapping, not text: name one of its entries", such)
    raise BadRow(f"{name!r} is {kind_of(value)}, whose text is not known: write it as text")


def _number(text: str, name: str) -> int | float:
    try:
        return int(text) if _WHOLE.fullmatch(text) else float(text)
    except ValueError:
        # Python refuses integers of more than 4300 digits.
        raise BadRow(f"{name!r} has too many digits") from None


def _other(value: Any, name: str) -> str:
    """Dates and times as ISO 8601."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise BadRow(f"{name!r} is {kind_of(value)}, which is not supported: write it as text")
