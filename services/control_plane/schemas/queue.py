"""A run's replay queue: its state, dead letters, and their purge. Sizes are bytes, times RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.control_plane.schemas.base import Resource
from services.redis.streams import STREAM_ID

MOST_PURGED = 100
"""dead letters that one request may purge"""
DeadLetterId = Annotated[str, Field(pattern=STREAM_ID, description="id of a dead letter")]
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_SPACE = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=rf"^[^{_CONTROL}]*[^{_SPACE}{_CONTROL}][^{_CONTROL}]*$",
        description="why, in one line; kept in the audit log",
    ),
]


class QueueCounters(Resource):
    """Counts of groups since the run began, over all its incarnations."""

    produced: int
    """added to the queue, including requeued ones"""
    read: int
    acknowledged: int
    duplicates: int
    """refused because the group had been added before"""
    refused_full: int
    """attempts refused because the queue was full"""
    dead_lettered: int
    requeued: int
    purged: int
    releases: int
    """leases that another generator took over after they expired"""


class QueueBytes(Resource):
    """Sizes of encoded groups; `stream` and `dead_letters` are memory as Redis estimates it."""

    unread: int
    unacknowledged: int
    """size of the pending groups; at most `unacknowledged_cap`"""
    unacknowledged_cap: int
    """`pipeline.unacked_bytes`"""
    stream: int
    dead_letters: int


class LeaseCount(Resource):
    """Leases of groups that generators of one role are sampling."""

    held: int
    expired: int
    """leases that were not renewed in time; the next generator that requests groups takes them over"""


class QueueState(Resource):
    """The resource `/v1/runs/{id}/queue`."""

    run_id: str
    unread: int
    """groups that the learner has not read; limited by `capacity`"""
    pending: int
    """groups read and neither acknowledged nor dead-lettered"""
    oldest_unread_seconds: float | None
    """age of the oldest unread group; null without one"""
    capacity: int
    """`pipeline.queue_capacity`"""
    share_used: float
    """`unread` as a fraction of `capacity`"""
    back_pressure: bool
    """whether the queue is full: generators wait to add their groups"""
    dead_letters: int
    lost: int
    """groups missing from learner steps unless their dead letter is requeued"""
    bytes: QueueBytes
    counters: QueueCounters
    leases: dict[str, LeaseCount]
    """leases by role"""


class DeadLetterView(Resource):
    """A group that will not be trained on, without its contents."""

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
    """`cursor` of the next page, of older entries; null at the end"""


class DeadLetterPurge(BaseModel):
    """Body of the purge of one dead letter."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    reason: Reason


class DeadLettersPurge(DeadLetterPurge):
    """Body of a purge of several dead letters."""

    ids: Annotated[list[DeadLetterId], Field(min_length=1, max_length=MOST_PURGED)]


class DeadLetterOutcome(Resource):
    """What happened to a dead letter."""

    id: str
    group_id: str
    outcome: Literal["requeued", "purged"]
    requeued_as: str | None
    """the group id under which it was added again"""
    reason: str | None
    """the reason given for a purge"""
    by: str
    at: datetime


class PurgeReport(Resource):
    """The answer to a purge of several dead letters."""

    purged: list[DeadLetterOutcome]
    """dead letters that this request or an earlier one purged"""
    unknown: list[str]
    """ids that are not dead letters, or that were requeued"""
