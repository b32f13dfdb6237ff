"""Files of one JSON document per line. A writer that was killed may leave the last line incomplete."""

from __future__ import annotations

import os
from pathlib import Path


def whole_lines(data: bytes) -> bytes:
    """`data` without an incomplete last line."""
    return data[: data.rfind(b"\n") + 1]


def read_lines(path: Path) -> list[bytes]:
    """The complete lines of a file, without their newlines. Raises OSError."""
    return whole_lines(path.read_bytes()).splitlines()


def cut_incomplete_line(path: Path) -> None:
    """Truncate a file, if it exists, after its last complete line: the next line then begins on its own."""
    if path.exists():
        os.truncate(path, len(whole_lines(path.read_bytes())))
