"""Routes of a run's entropy target: read it, change it, return to the configured schedule, wait until it is applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from redis import Redis

from services.access.tokens import Principal
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, Token, allowed, origin_of, reading
from services.control_plane.http.conditions import (
    Known,
    Repeat,
    Repeatable,
    answer_again,
    answered,
    etag,
    key_reused,
)
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.routes.entropy_target_view import resource, settled
from services.control_plane.schemas.base import FieldProblem
from services.control_plane.schemas.entropy_target import (
    EntropyTarget,
    EntropyTargetChange,
    EntropyTargetEvent,
    EntropyTargetHistory,
    EntropyTargetPatch,
)
from services.entropy_target.documents import (
    ChangeConditions,
    DesiredTarget,
    NoTargetSet,
    Repeated,
    StaleGeneration,
    TargetRefused,
)
from services.entropy_target.store import (
    applied_read,
    change_entropy_target,
    entropy_target_read,
    history_read,
    reset_entropy_target,
)
from services.redis.idempotency import Answer, KeyReused
from services.redis.query import Read, combine, fetch
from services.redis.streams import STREAM_ID
from services.run.control import Refused
from services.run.state import RunSpec, spec_read
from trainer.config import EntropyControlConfig
from trainer.config.regularizer import RegularizerConfig

MAX_WAIT_SECONDS = 60.0

Wait = Annotated[
    Literal["applied"] | None,
    Query(description="`applied`: answer when a learner step has applied the change, or after `timeout`"),
]
Timeout = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="longest wait, seconds; the change remains in effect after it",
    ),
]
Operator = Annotated[Principal, Depends(allowed("operator"))]

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/runs/{run_id}/entropy-target",
    tags=["entropy target"],
    responses=problems.RESPONSES,
)


class Steering(NamedTuple):
    """The run's configuration and the caller of a change."""

    control: EntropyControlConfig
    regularizer_tracks: bool
    """whether the run's regularizer also tracks the entropy target"""
    caller: str
    origin: str
    wait_seconds: float


def target_read(run_id: str) -> Read[EntropyTarget]:
    """The read of the resource. Raises a 404 problem for a run that has not started."""

    def shown(found: tuple[Any, ...]) -> EntropyTarget:
        (control, _), entropy_target, applied = found
        if entropy_target is None:
            raise _not_started(run_id)
        return resource(run_id, entropy_target, applied, control)

    return combine(_control_read(run_id), entropy_target_read(run_id), applied_read(run_id)).map(shown)


@router.get("")
async def get_entropy_target(
    response: Response, target: Annotated[EntropyTarget, Depends(reading("viewer", target_read))]
) -> EntropyTarget:
    """The desired entropy target, the one in force, and the learner step since which it is in force."""
    response.headers["ETag"] = etag(target.metadata.generation)
    return target


@router.get("/history")
def get_history(
    run_id: str,
    request: Request,
    redis: RedisClient,
    token: Token,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(pattern=STREAM_ID, description="`next` of the last page")] = None,
) -> EntropyTargetHistory:
    """Every change of the entropy target and when it was applied, newest first, in the order of effect."""
    wanted = history_read(run_id, limit + 1, before=cursor)
    events = reading("viewer", lambda _: wanted)(run_id, request, redis, token)
    shown = [
        EntropyTargetEvent.model_validate(event.model_dump() | {"at": datetime.fromtimestamp(event.at, UTC)})
        for event in events[:limit]
    ]
    return EntropyTargetHistory(events=shown, next=shown[-1].id if len(events) > limit else None)


def steering(
    run_id: str,
    redis: RedisClient,
    request: Request,
    caller: Operator,
    wait: Wait = None,
    timeout: Timeout = 30.0,
) -> Steering:
    """A dependency: what every change needs."""
    control, tracks = _control(redis, run_id)
    return Steering(control, tracks, caller.name, origin_of(request), timeout if wait else 0.0)


Steered = Annotated[Steering, Depends(steering)]
_CHANGE = {
    "status_code": HTTPStatus.ACCEPTED,
    "response_model": EntropyTarget,
    "responses": {
        200: {"model": EntropyTarget},
        409: problems.described(
            "The run has ended or is stopping, or has no entropy control, or the first request with this "
            "Idempotency-Key is still in progress."
        ),
    },
}


@router.put("", **_CHANGE)
async def put_entropy_target(
    run_id: str, change: EntropyTargetChange, redis: RedisClient, by: Steered, known: Known, repeat: Repeat
) -> Response:
    """Change the entropy target. It then takes precedence over the configured schedule.

    202: accepted, in force from the next step boundary. 200: applied within the wait. 409: the run has ended.
    """
    return await _made(
        redis,
        run_id,
        by,
        known,
        repeat,
        change.model_dump_json(),
        lambda conditions: _set(redis, run_id, by, change.target, change.over_steps, conditions),
    )


@router.patch("", **_CHANGE)
async def patch_entropy_target(
    run_id: str, patch: EntropyTargetPatch, redis: RedisClient, by: Steered, known: Known, repeat: Repeat
) -> Response:
    """Change part of the desired state. `{"target": null}` is the same as DELETE. Answers like PUT."""
    return await _made(
        redis,
        run_id,
        by,
        known,
        repeat,
        patch.model_dump_json(exclude_unset=True),
        lambda conditions: _patched(redis, run_id, by, patch, conditions),
    )


@router.delete("", **_CHANGE)
async def delete_entropy_target(
    run_id: str, redis: RedisClient, by: Steered, known: Known, repeat: Repeat
) -> Response:
    """Return to the configured schedule, at the learner step where the run is. Answers like PUT."""
    return await _made(
        redis, run_id, by, known, repeat, "", lambda conditions: _reset(redis, run_id, by, conditions)
    )


async def _made(
    redis: Redis,
    run_id: str,
    by: Steering,
    known: frozenset[int] | None,
    repeat: Repeatable,
    body: str,
    change: Callable[[ChangeConditions], DesiredTarget],
) -> Response:
    """Make the change, wait until it is applied if the caller asked for it, and answer."""
    response = await _answer(redis, run_id, by, known, repeat, body, change)
    response.headers["Location"] = f"/v1/runs/{run_id}/entropy-target"
    return response


async def _answer(
    redis: Redis,
    run_id: str,
    by: Steering,
    known: frozenset[int] | None,
    repeat: Repeatable,
    body: str,
    change: Callable[[ChangeConditions], DesiredTarget],
) -> Response:
    request = repeat.with_body(body, by.wait_seconds)
    try:
        entropy_target = await run_in_threadpool(
            _accepted, change, ChangeConditions(known, request, by.origin)
        )
    except Repeated as again:
        assert request is not None
        kept = await answer_again(redis, request)
        if kept is not None:
            return kept
        entropy_target = again.entropy_target
    target = await settled(redis, run_id, entropy_target, by.control, by.wait_seconds)
    status = HTTPStatus.OK if target.status.state == "applied" else HTTPStatus.ACCEPTED
    headers = {"etag": etag(entropy_target.generation)}
    return await answered(redis, request, Answer(status, target.model_dump_json(), headers))


def _set(
    redis: Redis,
    run_id: str,
    by: Steering,
    target: float | None,
    over_steps: int | None,
    conditions: ChangeConditions,
) -> DesiredTarget:
    """None for a value: that of the document."""
    return change_entropy_target(
        redis,
        run_id,
        target,
        by.caller,
        by.control,
        regularizer_tracks=by.regularizer_tracks,
        over_steps=over_steps,
        conditions=conditions,
    )


def _reset(redis: Redis, run_id: str, by: Steering, conditions: ChangeConditions) -> DesiredTarget:
    return reset_entropy_target(
        redis, run_id, by.caller, by.control, regularizer_tracks=by.regularizer_tracks, conditions=conditions
    )


def _patched(
    redis: Redis, run_id: str, by: Steering, patch: EntropyTargetPatch, conditions: ChangeConditions
) -> DesiredTarget:
    given = patch.model_fields_set
    if "target" in given and patch.target is None:
        return _reset(redis, run_id, by, conditions)
    over_steps = (patch.over_steps or 0) if "over_steps" in given else None
    return _set(redis, run_id, by, patch.target, over_steps, conditions)


def _control(redis: Redis, run_id: str) -> tuple[EntropyControlConfig, bool]:
    """The run's `entropy_control`, and whether its regularizer also tracks the entropy target."""
    return fetch(redis, _control_read(run_id))


def _control_read(run_id: str) -> Read[tuple[EntropyControlConfig, bool]]:
    def blocks(spec: RunSpec | None) -> tuple[EntropyControlConfig, bool]:
        if spec is None:
            raise _not_started(run_id)
        return _parsed(json.dumps(spec.config["entropy_control"]), json.dumps(spec.config["regularizer"]))

    return spec_read(run_id).map(blocks)


@lru_cache(maxsize=64)
def _parsed(control: str, regularizer: str) -> tuple[EntropyControlConfig, bool]:
    # From JSON, because only there does the strict mode of pydantic accept a list for a tuple.
    tracks = RegularizerConfig.model_validate_json(regularizer).tracks_entropy_target
    return EntropyControlConfig.model_validate_json(control), tracks


def _not_started(run_id: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")


def _accepted(
    change: Callable[[ChangeConditions], DesiredTarget], conditions: ChangeConditions
) -> DesiredTarget:
    try:
        return change(conditions)
    except TargetRefused as refused:
        field = FieldProblem(field="body.target", value=repr(refused.value), allowed=refused.allowed)
        conflict = refused.reason == "no_control"
        raise Problem(
            HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{refused}.",
            kind="no-entropy-control" if conflict else "target-out-of-range",
            errors=[] if refused.value is None else [field],
        ) from None
    except StaleGeneration as stale:
        current = stale.current
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            f"The entropy target has changed since: generation {current.generation}, by {current.updated_by}.",
            kind="generation-changed",
            headers={"ETag": etag(current.generation)},
        ) from None
    except NoTargetSet:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "body.target is required: the configured schedule is in force, so there is no target to keep.",
            kind="invalid-request",
            errors=[FieldProblem(field="body.target", value="absent", allowed="a number, nats per token")],
        ) from None
    except KeyReused:
        raise key_reused() from None
    except Refused as refused:
        raise Problem(
            HTTPStatus.CONFLICT,
            f"The entropy target cannot be changed: {refused}, so no learner step would apply it. "
            "Resume the run first.",
            kind="run-ended",
        ) from None
