"""Idempotency keys: a repeated request is accepted once and gets the answer of the first.

The Lua script that makes a change also writes the record of its key (`lua/idempotency.lua`), so that a control plane
that is killed at any moment leaves both or neither. The record holds the digest of the request, the document that the
change left and, once it is given, the answer.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from services.redis.keys import RunKeys
from services.redis.query import TIME, as_text, combine, command, fetch
from services.redis.scripts import script_text

if TYPE_CHECKING:
    from redis import Redis

KEPT_SECONDS = 24 * 3600
"""lifetime of a record, seconds"""


class IdempotentRequest(NamedTuple):
    """A request that carries an idempotency key."""

    record: str
    """name of the Redis key that holds its record"""
    digest: str
    """SHA-256 of the request"""
    seconds: float
    """seconds that the first answer may take; a request repeated within them is told to wait"""


class KeyReused(Exception):
    """The idempotency key belongs to another request."""


class FirstIsRunning(Exception):
    """The first request with the idempotency key may still get its answer."""


class Answer(NamedTuple):
    """The answer to the first request."""

    status: int
    body: str
    headers: dict[str, str]


def idempotent_request(
    run_id: str, token: str, route: str, key: str, request: bytes, seconds: float
) -> IdempotentRequest:
    """A request with the idempotency key `key`, by the owner of `token`, to a route of a run.

    request: the bytes that a repeated request must have in common with it; seconds: how long the answer may take.
    """
    name = hashlib.sha256("\0".join((token, route, key)).encode()).hexdigest()
    return IdempotentRequest(RunKeys(run_id).idempotency(name), hashlib.sha256(request).hexdigest(), seconds)


def keep_answer(redis: Redis, request: IdempotentRequest, answer: Answer) -> None:
    """Store the answer for as long as the record lives; a stored answer stays."""
    store = redis.register_script(script_text("services.redis", "keep_answer"))
    store(keys=[request.record], args=[int(answer.status), answer.body, answer.headers.get("etag", "")])


def kept_answer(redis: Redis, request: IdempotentRequest) -> Answer | None:
    """The stored answer; None where the first request ended without one. Raises FirstIsRunning while it may come."""
    stored = command(lambda found: found, "HMGET", request.record, "status", "body", "etag", "until")
    found, now = fetch(redis, combine(stored, TIME))
    status, body, etag, until = (None if value is None else as_text(value) for value in found)
    if status is not None and body is not None:
        return Answer(int(status), body, {"etag": etag} if etag else {})
    if until is not None and now < float(until):
        raise FirstIsRunning
    return None
