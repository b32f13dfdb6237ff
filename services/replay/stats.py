"""Counters of the replay queue, for step records, reports and the control plane. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from redis import Redis

from services.redis.keys import RunKeys


@dataclass(frozen=True)
class QueueStats:
    """The queue at one instant. Counts are groups since the run began, over all its incarnations."""

    produced: int
    """entered the stream, requeued ones included"""
    read: int
    duplicates: int
    """refused: the group id had entered before"""
    refused_full: int
    """times an `add` was put off because the queue was full"""
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
    """in the dead-letter stream now"""

    @property
    def unread(self) -> int:
        """Groups in the stream that no learner has read; what the capacity counts."""
        return self.produced - self.read

    @property
    def pending(self) -> int:
        """Groups read and neither acknowledged nor dead-lettered."""
        return self.read - self.acknowledged - self.dead_lettered

    @property
    def unacknowledged_bytes(self) -> int:
        """Size of the pending groups."""
        return self.read_bytes - self.released_bytes

    @property
    def queued_bytes(self) -> int:
        """Size of the unread and the pending groups."""
        return self.produced_bytes - self.released_bytes


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
    """The counters of `run_id`, all of one instant."""
    keys = RunKeys(run_id)
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hmget(keys.counters, _COUNTERS)
        pipeline.xlen(keys.dead_letters)
        counters, dead_letters = cast("tuple[list[bytes | None], int]", pipeline.execute())
    values = {name: int(value or 0) for name, value in zip(_COUNTERS, counters, strict=True)}
    return QueueStats(**values, dead_letters=dead_letters)
