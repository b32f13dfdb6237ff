"""Pages of a Redis stream, newest entries first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.redis.query import Read, as_fields, as_text, command, fetch

if TYPE_CHECKING:
    from redis import Redis

STREAM_ID = r"^[1-9][0-9]{0,17}-[0-9]{1,18}$"
"""pattern of an entry id that serves as a cursor; 0-0 is excluded, since Redis has no interval that ends before it"""


def newest_entries(
    redis: Redis, stream: str, limit: int, before: str | None = None
) -> list[tuple[str, dict[str, str]]]:
    """Id and fields of the newest `limit` entries, newest first; only those older than the entry `before`, if given."""
    return fetch(redis, newest_entries_read(stream, limit, before))


def newest_entries_read(
    stream: str, limit: int, before: str | None = None
) -> Read[list[tuple[str, dict[str, str]]]]:
    """`newest_entries` as a `Read`."""

    def parse(found: list[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[str, dict[str, str]]]:
        return [(as_text(entry_id), as_fields(fields)) for entry_id, fields in found]

    newest = "+" if before is None else f"({before}"
    return command(parse, "XREVRANGE", stream, newest, "-", "COUNT", limit)
