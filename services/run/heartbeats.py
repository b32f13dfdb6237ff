"""Heartbeats of the generators of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from services.redis.keys import RunKeys
from services.redis.query import Read, as_fields, command, fetch, server_time
from services.run.state import to_json

if TYPE_CHECKING:
    from redis import Redis


def beat(redis: Redis, run_id: str, generator_id: str, document: Mapping[str, Any]) -> None:
    """Write a generator's heartbeat: `document` (role, state, version, counters) and, under `at`, the time."""
    redis.hset(RunKeys(run_id).generators, generator_id, to_json({**document, "at": server_time(redis)}))


def generators(redis: Redis, run_id: str) -> dict[str, dict[str, Any]]:
    """The newest heartbeat of every generator of this incarnation, by generator id."""
    return fetch(redis, generators_read(run_id))


def generators_read(run_id: str) -> Read[dict[str, dict[str, Any]]]:
    """`generators` as a `Read`."""

    def parse(stored: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
        return {name: msgspec.json.decode(document) for name, document in sorted(as_fields(stored).items())}

    return command(parse, "HGETALL", RunKeys(run_id).generators)
