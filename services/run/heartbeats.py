"""Heartbeats of the generators of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from services.redis.keys import RunKeys
from services.redis.query import Read, as_fields, fetch, one, server_time

if TYPE_CHECKING:
    from redis import Redis
from services.run.state import _json


def beat(redis: Redis, run_id: str, generator_id: str, document: Mapping[str, Any]) -> None:
    """Write a generator's heartbeat: `document` (role, state, version, counters) and the time under `at`."""
    redis.hset(RunKeys(run_id).generators, generator_id, _json({**document, "at": server_time(redis)}))


def generators(redis: Redis, run_id: str) -> dict[str, dict[str, Any]]:
    """The newest heartbeat of every generator of this incarnation, by generator id."""
    return fetch(redis, generators_read(run_id))


def generators_read(run_id: str) -> Read[dict[str, dict[str, Any]]]:
    """The read of `generators`."""

    def parse(stored: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
        return {name: msgspec.json.decode(document) for name, document in sorted(as_fields(stored).items())}

    return one(parse, "HGETALL", RunKeys(run_id).generators)
