"""Files of one JSON document a line."""

from __future__ import annotations


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
