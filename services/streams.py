"""Reading a Redis stream backwards in pages."""

from __future__ import annotations

from typing import cast

from redis import Redis

from services.replies import as_fields, as_text

STREAM_ID = r"^[1-9]\d{0,17}-\d{1,18}$"
"""pattern of an entry's id, as a cursor holds it: Redis has no interval that ends before 0-0"""


def newest_entries(
    redis: Redis, stream: str, limit: int, before: str | None = None
) -> list[tuple[str, dict[str, str]]]:
    """The newest `limit` entries, newest first: id and fields; only those older than the entry `before`, if given."""
    found = redis.xrevrange(stream, max="+" if before is None else f"({before}", count=limit)
    return [
        (as_text(entry_id), as_fields(fields))
        for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
    ]
