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
from services.control_plane.connections.turns import ON_VALID_TOKEN
from services.control_plane.http.problems import Problem
from services.redis.keys import rate_key
from services.redis.query import Read, command, fetch
from services.redis.scripts import script_text
from trainer.config import ControlPlaneConfig

BURST_SECONDS = 10
"""depth of a bucket: the burst allowed is what the rate allows in this time"""
_READING = ("GET", "HEAD", "OPTIONS")


def admission(request: Request, token: str, known_in: Sequence[str] = ()) -> Read[None]:
    """The read that counts this request against the token's limit, if the token is in one of the hashes `known_in`.

    known_in: hashes of tokens; none: count it in any case. Parsing raises a 429 problem that says when to try again; it
    is done for a valid token only, and tells the connection so (`services.control_plane.connections.turns`).
    """
    limits: ControlPlaneConfig = request.app.state.limits
    reading = request.method in _READING
    kind, allowed = ("read", limits.reads_per_minute) if reading else ("write", limits.writes_per_minute)
    interval = 60e6 / allowed
    depth = max(interval, BURST_SECONDS * 1e6)
    digest = digest_of(token)

    def refuse_if_limited(microseconds: int) -> None:
        if valid := request.scope.get("state", {}).get(ON_VALID_TOKEN):
            valid()
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
    script = script_text("services.control_plane.http", "take")
    return command(refuse_if_limited, "EVAL", script, len(names), *names, repr(interval), repr(depth), digest)


def admit(request: Request, redis: Redis, token: str) -> None:
    """Count this request against the token's limit. Raises a 429 problem."""
    fetch(redis, admission(request, token))
