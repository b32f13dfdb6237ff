"""The rate limit of a token: one bucket for reads and one for changes, in Redis and so shared by all replicas.

This is the generic cell rate algorithm. Each request moves the time at which the bucket is full again by one interval;
it is refused if that time would be further ahead than the depth of the bucket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Request
from redis import Redis

from services.access.tokens import digest_of
from services.control_plane.http.problems import Problem
from services.redis.keys import rate_key
from services.redis.query import Read, fetch, one
from trainer.config import ControlPlaneConfig

BURST_SECONDS = 10
"""depth of a bucket: the burst allowed is what the rate allows in this time"""
_READING = ("GET", "HEAD", "OPTIONS")

_TAKE = """
for i = 2, #KEYS do
    if redis.call('HEXISTS', KEYS[i], ARGV[3]) == 1 then break end
    if i == #KEYS then return -1 end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if full - now + interval > depth then return math.ceil(full - now + interval - depth) end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return 0
"""
"""Take one request from the bucket, where the token is one of those in the further keys, or there are none: a stranger
writes nothing. Returns microseconds to wait before one could be taken; -1 where nothing was looked at."""


def admission(request: Request, token: str, known_in: Sequence[str] = ()) -> Read[None]:
    """The read that counts this request against the token's limit, if the token is in one of the hashes `known_in`.

    known_in: Redis keys; empty: count it in any case. The read raises a 429 problem with the time to wait.
    """
    limits: ControlPlaneConfig = request.app.state.limits
    reading = request.method in _READING
    kind, allowed = ("read", limits.reads_per_minute) if reading else ("write", limits.writes_per_minute)
    interval = 60e6 / allowed
    depth = max(interval, BURST_SECONDS * 1e6)
    digest = digest_of(token)

    def judge(microseconds: int) -> None:
        wait = microseconds / 1e6
        if wait > 0:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This token may make {allowed} {kind} requests per minute, at most {max(1, allowed // 6)} at once. "
                f"Try again in {wait:.1f} seconds.",
                kind="too-many-requests",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    names = (rate_key(digest, kind), *known_in)
    return one(judge, "EVAL", _TAKE, len(names), *names, repr(interval), repr(depth), digest)


def admit(request: Request, redis: Redis, token: str) -> None:
    """Count this request against the token's limit. Raises a 429 problem."""
    fetch(redis, admission(request, token))
