"""Values of a row: at nested names, as the text of an answer, and as plain values for a verifier."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from trainer.tasks.datasets.json_text import parse_json
from trainer.tasks.datasets.records import BadRow, MissingError, Numeral, kind_of, listed

_WHOLE = re.compile(r"-?[0-9]+")
_MATHEMATICS = re.compile(r"(?<!\\)\$")
_LOOKS_VERL = re.compile(r"""\s*\{.*['"]ground_truth['"]\s*:""", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
GROUND_TRUTH = "ground_truth"
"""the answer in a mapping that a column of answers holds (as in verl)"""


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


def _unpacked(value: Any, name: str) -> Any:
    """The value, or its `ground_truth` if it is a mapping, or JSON text of one, that has it."""
    found = value
    if isinstance(value, str) and _LOOKS_VERL.match(value):
        try:
            found = parse_json(value)
        except ValueError:
            raise BadRow(f"{name!r} looks like a mapping with {GROUND_TRUTH!r}, but is not JSON") from None
    return found[GROUND_TRUTH] if isinstance(found, Mapping) and GROUND_TRUTH in found else value


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
