"""Routes of a run's replay queue: its state, its dead letters, and requeuing or purging them.

The changes are idempotent and need no idempotency key: a repetition changes nothing and gets the same answer.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Path, Query, Request
from redis import Redis

from services.access.tokens import Principal
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, allowed, origin_of
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.queue import (
    DeadLetterOutcome,
    DeadLetterPage,
    DeadLetterPurge,
    DeadLettersPurge,
    DeadLetterView,
    LeaseCount,
    PurgeReport,
    QueueBytes,
    QueueCounters,
    QueueState,
)
from services.redis.streams import STREAM_ID
from services.replay.dead_letters import (
    Outcome,
    QueueFull,
    ReplayAdmin,
    UnknownDeadLetter,
    UnusableDeadLetter,
    unknown,
)
from services.replay.stats import queue_gauges
from services.run.state import read_spec
from trainer.config import PipelineConfig

MOST_LISTED = 200

Viewer = Annotated[Principal, Depends(allowed("viewer"))]
Operator = Annotated[Principal, Depends(allowed("operator"))]
Letter = Annotated[str, Path(pattern=STREAM_ID, description="id of a dead letter")]

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/runs/{run_id}/queue",
    tags=["queue"],
    responses=problems.RESPONSES,
)


class Caller(NamedTuple):
    """The caller of a change, and the queue's administration."""

    admin: ReplayAdmin
    name: str
    origin: str


def operator(run_id: str, redis: RedisClient, request: Request, caller: Operator) -> Caller:
    """A dependency: what every change needs."""
    return Caller(_admin(redis, run_id), caller.name, origin_of(request))


By = Annotated[Caller, Depends(operator)]


@router.get("")
def get_queue(run_id: str, redis: RedisClient, _: Viewer) -> QueueState:
    """How full the queue is, what is pending, and counters since the run began."""
    pipeline, gauges = _pipeline(redis, run_id), queue_gauges(redis, run_id)
    stats = gauges.stats
    return QueueState(
        run_id=run_id,
        unread=stats.unread,
        pending=stats.pending,
        oldest_unread_seconds=gauges.oldest_unread_seconds,
        capacity=pipeline.queue_capacity,
        share_used=stats.unread / pipeline.queue_capacity,
        back_pressure=stats.unread >= pipeline.queue_capacity,
        dead_letters=stats.dead_letters,
        lost=gauges.lost,
        bytes=QueueBytes(
            unread=stats.produced_bytes - stats.read_bytes,
            unacknowledged=stats.unacknowledged_bytes,
            unacknowledged_cap=pipeline.unacked_bytes,
            stream=gauges.stream_bytes,
            dead_letters=gauges.dead_letter_bytes,
        ),
        counters=QueueCounters(**{name: getattr(stats, name) for name in QueueCounters.model_fields}),
        leases={
            role: LeaseCount(held=counts.held, expired=counts.expired)
            for role, counts in gauges.leases.items()
        },
    )


@router.get("/dead-letters")
def get_dead_letters(
    run_id: str,
    redis: RedisClient,
    _: Viewer,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
    cursor: Annotated[str | None, Query(pattern=STREAM_ID, description="`next` of the last page")] = None,
) -> DeadLetterPage:
    """Dead letters: groups that will not be trained on, with the reason, newest first, without their contents."""
    letters = _admin(redis, run_id).dead_letters(limit + 1, before=cursor or "")
    shown = [
        DeadLetterView(
            id=letter.letter_id,
            group_id=letter.group_id,
            producer_id=letter.producer_id,
            reason=letter.reason,
            deliveries=letter.deliveries,
            size=letter.size,
            at=datetime.fromtimestamp(letter.at, UTC),
        )
        for letter in letters[:limit]
    ]
    return DeadLetterPage(dead_letters=shown, next=shown[-1].id if len(letters) > limit else None)


@router.post("/dead-letters/{letter_id}:requeue")
def requeue_dead_letter(letter_id: Letter, by: By) -> DeadLetterOutcome:
    """Put a dead letter back into the queue, as the next attempt of its group. Idempotent."""
    try:
        return _view(by.admin.requeue(letter_id, by.name, by.origin))
    except UnknownDeadLetter as error:
        raise _no_letter(error) from None
    except UnusableDeadLetter as error:
        raise Problem(HTTPStatus.CONFLICT, _sentence(error), kind="dead-letter-unusable") from None
    except QueueFull as error:
        raise Problem(
            HTTPStatus.CONFLICT, _sentence(error), kind="queue-full", headers={"Retry-After": "5"}
        ) from None


@router.post("/dead-letters/{letter_id}:purge")
def purge_dead_letter(letter_id: Letter, purge: DeadLetterPurge, by: By) -> DeadLetterOutcome:
    """Delete a dead letter permanently. Its place in the learner's step stays empty. Idempotent."""
    outcome = next(iter(by.admin.purge([letter_id], purge.reason, by.name, by.origin)), None)
    if outcome is None or outcome.outcome != "purged":
        raise _no_letter(unknown(letter_id, outcome))
    return _view(outcome)


@router.post("/dead-letters:purge")
def purge_dead_letters(purge: DeadLettersPurge, by: By) -> PurgeReport:
    """Delete several dead letters permanently; `unknown` lists the ids that are not dead letters. Idempotent."""
    ids = list(dict.fromkeys(purge.ids))
    outcomes = by.admin.purge(ids, purge.reason, by.name, by.origin)
    purged = {outcome.letter_id: _view(outcome) for outcome in outcomes if outcome.outcome == "purged"}
    return PurgeReport(purged=list(purged.values()), unknown=[i for i in ids if i not in purged])


def _pipeline(redis: Redis, run_id: str) -> PipelineConfig:
    spec = read_spec(redis, run_id)
    if spec is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    return PipelineConfig.model_validate_json(json.dumps(spec.config["pipeline"]))


def _admin(redis: Redis, run_id: str) -> ReplayAdmin:
    pipeline = _pipeline(redis, run_id)
    return ReplayAdmin(redis, run_id, capacity=pipeline.queue_capacity, entry_bytes=pipeline.entry_bytes)


def _view(outcome: Outcome) -> DeadLetterOutcome:
    return DeadLetterOutcome(
        id=outcome.letter_id,
        group_id=outcome.group_id,
        outcome=outcome.outcome,
        requeued_as=outcome.became or None,
        reason=outcome.reason or None,
        by=outcome.by,
        at=datetime.fromtimestamp(outcome.at, UTC),
    )


def _no_letter(error: UnknownDeadLetter) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, _sentence(error), kind="unknown-dead-letter")


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[0].upper() + text[1:]
