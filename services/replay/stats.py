"""Counters and gauges of the replay queue, for step records, reports and the control plane. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args

from redis import Redis

from services.redis.keys import RunKeys
from services.redis.scripts import script_text
from trainer.roles import Role


@dataclass(frozen=True)
class QueueStats:
    """The queue at one instant. Counts are groups since the run began, over all its incarnations."""

    produced: int
    """entered the stream, requeued ones included"""
    read: int
    duplicates: int
    """refused: the group id had entered before"""
    refused_full: int
    """times that `add` refused a group because the queue was full"""
    acknowledged: int
    dead_lettered: int
    releases: int
    """leases taken over after they expired"""
    requeued: int
    purged: int
    produced_bytes: int
    read_bytes: int
    released_bytes: int
    """bytes of acknowledged and dead-lettered groups"""
    dead_letters: int
    """dead letters in their stream at this instant"""

    @property
    def unread(self) -> int:
        """Groups in the stream that no learner has read; `pipeline.queue_capacity` limits them."""
        return self.produced - self.read

    @property
    def pending(self) -> int:
        """Groups read and neither acknowledged nor dead-lettered."""
        return self.read - self.acknowledged - self.dead_lettered

    @property
    def unacknowledged_bytes(self) -> int:
        """Size of the pending groups."""
        return self.read_bytes - self.released_bytes


_COUNTERS = (
    "produced",
    "read",
    "duplicates",
    "refused_full",
    "acknowledged",
    "dead_lettered",
    "releases",
    "requeued",
    "purged",
    "produced_bytes",
    "read_bytes",
    "released_bytes",
)


def queue_stats(redis: Redis, run_id: str) -> QueueStats:
    """The counters of `run_id`, read in one transaction."""
    keys = RunKeys(run_id)
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hmget(keys.counters, _COUNTERS)
        pipeline.xlen(keys.dead_letters)
        counters, dead_letters = cast("tuple[list[bytes | None], int]", pipeline.execute())
    values = {name: int(value or 0) for name, value in zip(_COUNTERS, counters, strict=True)}
    return QueueStats(**values, dead_letters=dead_letters)


class Leases(NamedTuple):
    """Groups of one role that generators work on."""

    held: int
    expired: int
    """leases that were not renewed in time; the next generator that requests groups takes them over"""


@dataclass(frozen=True)
class QueueGauges:
    """Counters and gauges of the queue. They are read one after another, not in one transaction."""

    stats: QueueStats
    oldest_unread_seconds: float | None
    """since the oldest unread group entered; None without one"""
    lost: int
    """places in learner steps that stay empty unless their dead letter is requeued"""
    leases: dict[str, Leases]
    """leases by role"""
    stream_bytes: int
    dead_letter_bytes: int
    """memory of the two streams, as Redis estimates it"""


def queue_gauges(redis: Redis, run_id: str) -> QueueGauges:
    """The counters and gauges of `run_id`."""
    keys, roles = RunKeys(run_id), get_args(Role)
    gauges = redis.register_script(script_text("services.replay", "gauges"))
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
