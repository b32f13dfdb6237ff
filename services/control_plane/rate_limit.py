"""How often a token may call: a bucket of requests for reading and one for changing, kept in Redis for every replica.

The generic cell rate algorithm: each request moves the instant at which the bucket is full again by one interval, and
is refused while that instant lies further ahead than the bucket is deep.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import cast

from fastapi import Request
from redis import Redis

from services.control_plane.problems import Problem
from services.keys import rate_key
from services.tokens import digest_of
from trainer.config import ControlPlaneConfig

BURST_SECONDS = 10
"""of the allowed rate that may come at once"""
_READING = ("GET", "HEAD", "OPTIONS")

_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if full - now + interval > depth then return math.ceil(full - now + interval - depth) end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return 0
"""
"""Take one request from the bucket; returns microseconds to wait before one could be taken."""


def admit(request: Request, redis: Redis, token: str) -> None:
    """Count this request against the token's limit. Raises a 429 problem that says when to come again."""
    limits: ControlPlaneConfig = request.app.state.limits
    reading = request.method in _READING
    kind, allowed = ("read", limits.reads_per_minute) if reading else ("write", limits.writes_per_minute)
    interval = 60e6 / allowed
    depth = max(interval, BURST_SECONDS * 1e6)
    name = rate_key(digest_of(token), kind)
    wait = cast("int", redis.eval(_TAKE, 1, name, repr(interval), repr(depth))) / 1e6
    if wait > 0:
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"This token may make {allowed} {kind} requests a minute, {max(1, allowed // 6)} of them at once. "
            f"Come again in {wait:.1f} seconds.",
            kind="too-many-requests",
            headers={"Retry-After": str(math.ceil(wait))},
        )
