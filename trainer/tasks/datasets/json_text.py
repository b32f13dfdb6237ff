"""JSON that keeps how numbers are written."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from trainer.tasks.datasets.records import BadRow, Numeral

TOO_DEEP = "too many brackets inside each other"


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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return BadRow("an object has a key twice", repr(twice[:40]))
    return next((fault for value in found.values() if (fault := _fault_in(value)) is not None), found)


def _fault_in(value: Any) -> BadRow | None:
    """The fault of an object that was parsed, directly or in lists."""
    if isinstance(value, list):
        return next((fault for one in value if (fault := _fault_in(one)) is not None), None)
    return value if isinstance(value, BadRow) else None
