"""Idempotency keys: a request that is sent again is accepted once and answered as it was the first time.

The record of a key is written by the same Lua script that makes the change (`BEGIN`, `FINISH`), so that a control
plane that is killed at any moment leaves either both or neither. It holds the digest of the request, the document that
the change left, and, once it has been given, the answer.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, cast

from services.redis.keys import RunKeys
from services.redis.query import as_text

if TYPE_CHECKING:
    from redis import Redis

KEPT_SECONDS = 24 * 3600

BEGIN = """
local function earlier(record, digest)
    if digest == '' then return nil end
    local stored = redis.call('HMGET', record, 'digest', 'document')
    if not stored[1] then return nil end
    if stored[1] ~= digest then return {'reused'} end
    return {'again', cjson.decode(stored[2])}
end
"""
"""`earlier(record, digest)`: the reply to a request that came before, or nil. An empty digest: there is no key."""

FINISH = f"""
local function remember(record, digest, seconds, document)
    if digest == '' then return end
    local clock = redis.call('TIME')
    local until_ = clock[1] + clock[2] / 1e6 + seconds
    redis.call('HSET', record, 'digest', digest, 'document', cjson.encode(document), 'until', tostring(until_))
    redis.call('EXPIRE', record, {KEPT_SECONDS})
end
"""
"""`remember(record, digest, seconds, document)`: document is a flat list of names and values."""


_KEEP = """
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'status') == 0 then
    redis.call('HSET', KEYS[1], 'status', ARGV[1], 'body', ARGV[2], 'etag', ARGV[3])
end
"""


class Once(NamedTuple):
    """One use of an idempotency key."""

    record: str
    """name of its Redis key"""
    digest: str
    """of the request"""
    seconds: float
    """how long the first answer may take; a repetition within them is told to wait"""


class KeyReused(Exception):
    """The key belongs to another request."""


class Answer(NamedTuple):
    """What the first request was told."""

    status: int
    body: str
    headers: dict[str, str]


def once(run_id: str, token: str, route: str, key: str, request: bytes, seconds: float) -> Once:
    """The use of `key` by the owner of `token` on a route of a run. request: what must be the same again."""
    name = hashlib.sha256("\0".join((token, route, key)).encode()).hexdigest()
    return Once(RunKeys(run_id).once(name), hashlib.sha256(request).hexdigest(), seconds)


def keep_answer(redis: Redis, use: Once, answer: Answer) -> None:
    """Remember what was answered, for as long as the record lives; the first answer stays."""
    redis.eval(_KEEP, 1, use.record, int(answer.status), answer.body, answer.headers.get("etag", ""))


def kept_answer(redis: Redis, use: Once) -> Answer | None:
    """What was answered, or None when it was not (yet)."""
    stored = cast("list[bytes | None]", redis.hmget(use.record, ["status", "body", "etag"]))
    status, body, etag = (None if value is None else as_text(value) for value in stored)
    if status is None or body is None:
        return None
    return Answer(int(status), body, {"etag": etag} if etag else {})


def first_is_running(redis: Redis, use: Once) -> bool:
    """Whether the first request may still be waiting for its answer."""
    until = cast("bytes | None", redis.hget(use.record, "until"))
    seconds, microseconds = cast("tuple[int, int]", redis.time())
    return until is not None and seconds + microseconds / 1e6 < float(as_text(until))
