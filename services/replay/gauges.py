"""The replay queue as it is now, for people: its counters, how long it has waited, who holds work, its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args

from redis import Redis

from services.redis.keys import RunKeys
from services.replay.scripts import script
from services.replay.stats import QueueStats, queue_stats
from trainer.roles import Role


class Leases(NamedTuple):
    """Groups of one role that generators work on."""

    held: int
    expired: int
    """their holder is silent; the next generator that asks gets them"""


@dataclass(frozen=True)
class QueueGauges:
    """The queue now. Its parts are read one after the other, so that they may differ by what happens meanwhile."""

    stats: QueueStats
    oldest_unread_seconds: float | None
    """since the oldest unread group entered; None without one"""
    lost: int
    """places in learner steps that stay empty unless their dead letter is requeued"""
    leases: dict[str, Leases]
    """by role"""
    stream_bytes: int
    dead_letter_bytes: int
    """of the two streams in Redis's memory, estimated by it"""


def queue_gauges(redis: Redis, run_id: str) -> QueueGauges:
    """Read everything."""
    keys, roles = RunKeys(run_id), get_args(Role)
    gauges = redis.register_script(script("gauges"))
    names = [keys.counters, keys.trajectories, keys.lost, *(keys.leases(role) for role in roles)]
    age, lost, *leases = cast("list[Any]", gauges(keys=names))
    return QueueGauges(
        stats=queue_stats(redis, run_id),
        oldest_unread_seconds=None if age < 0 else age / 1000,
        lost=lost,
        leases={role: Leases(*counts) for role, counts in zip(roles, leases, strict=True)},
        stream_bytes=_memory(redis, keys.trajectories),
        dead_letter_bytes=_memory(redis, keys.dead_letters),
    )


def _memory(redis: Redis, key: str) -> int:
    return cast("int | None", redis.memory_usage(key)) or 0
