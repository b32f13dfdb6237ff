"""Reading Redis's replies: text, whether the client decodes it or not."""

from __future__ import annotations

from collections.abc import Mapping


def as_text(value: bytes | str) -> str:
    """The text of a bulk reply."""
    return value.decode() if isinstance(value, bytes) else value


def as_fields(stored: Mapping[bytes, bytes] | Mapping[str, str]) -> dict[str, str]:
    """The text of a hash or of a stream entry."""
    return {as_text(name): as_text(value) for name, value in stored.items()}
