"""What the control plane says and accepts about a run's replay queue. Sizes are bytes, times RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.control_plane.schemas.base import Resource
from services.redis.streams import STREAM_ID

MOST_PURGED = 100
"""dead letters that one request may purge"""
LetterId = Annotated[str, Field(pattern=STREAM_ID, description="id of a dead letter")]
Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
        description="why; one line, kept in the audit",
    ),
]


class QueueCounters(Resource):
    """Groups since the run began, over all its incarnations."""

    produced: int
    """entered the queue, requeued ones included"""
    read: int
    acknowledged: int
    duplicates: int
    """refused: the group had entered before"""
    refused_full: int
    """times that a group was put off because the queue was full"""
    dead_lettered: int
    requeued: int
    purged: int
    releases: int
    """leases taken over after they expired"""


class QueueBytes(Resource):
    """Sizes of encoded groups; the last two are Redis's memory, as it estimates it."""

    unread: int
    unacknowledged: int
    """of the pending groups; at most `unacknowledged_cap`"""
    unacknowledged_cap: int
    """`pipeline.unacked_bytes`"""
    stream: int
    dead_letters: int


class LeaseCount(Resource):
    """Groups that generators of one role work on."""

    held: int
    expired: int
    """their holder is silent; the next generator that asks gets them"""


class QueueState(Resource):
    """The resource `/v1/runs/{id}/queue`."""

    run_id: str
    unread: int
    """groups that the learner has not read; what `capacity` limits"""
    pending: int
    """groups read and neither acknowledged nor dead-lettered"""
    oldest_unread_seconds: float | None
    """since it entered; null without one"""
    capacity: int
    """`pipeline.queue_capacity`"""
    share_used: float
    """of the capacity"""
    back_pressure: bool
    """whether the queue is full: generators wait to add their groups"""
    dead_letters: int
    lost: int
    """places in learner steps that stay empty unless their dead letter is requeued"""
    bytes: QueueBytes
    counters: QueueCounters
    leases: dict[str, LeaseCount]
    """by role"""


class DeadLetterView(Resource):
    """A group that will not be used; never what it holds."""

    id: str
    group_id: str
    producer_id: str
    reason: str
    deliveries: int
    size: int
    at: datetime


class DeadLetterPage(Resource):
    """The resource `/v1/runs/{id}/queue/dead-letters`, newest first."""

    dead_letters: list[DeadLetterView]
    next: str | None
    """`cursor` of the older ones; null at the end"""


class LetterPurge(BaseModel):
    """Body of a purge."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    reason: Reason


class LettersPurge(LetterPurge):
    """Body of a purge of several."""

    ids: Annotated[list[LetterId], Field(min_length=1, max_length=MOST_PURGED)]


class LetterOutcome(Resource):
    """What became of a dead letter."""

    id: str
    group_id: str
    outcome: Literal["requeued", "purged"]
    requeued_as: str | None
    """the group id under which it entered again"""
    reason: str | None
    """of a purge"""
    by: str
    at: datetime


class PurgeReport(Resource):
    """Answer to a purge of several."""

    purged: list[LetterOutcome]
    """now, or by an earlier request"""
    unknown: list[str]
    """ids that are no dead letters, or not any more because they were requeued"""
