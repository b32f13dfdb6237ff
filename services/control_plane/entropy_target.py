"""Routes of a run's entropy set-point: read it, change it, wait until a learner step has applied it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from redis import Redis

from services.control_plane import problems
from services.control_plane.auth import State, allowed
from services.control_plane.problems import Problem
from services.control_plane.schemas import (
    EntropyTarget,
    EntropyTargetChange,
    EntropyTargetMetadata,
    EntropyTargetSpec,
    EntropyTargetStatus,
    FieldProblem,
)
from services.run_state import read_spec
from services.set_point import (
    Applied,
    SetPoint,
    SetPointRefused,
    change_set_point,
    read_applied,
    read_set_point,
)
from services.tokens import Principal
from trainer.config import EntropyControlConfig
from trainer.config_regularizer import RegularizerConfig

MAX_WAIT_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

router = APIRouter(
    prefix="/v1/runs/{run_id}/entropy-target", tags=["entropy target"], responses=problems.RESPONSES
)


@router.get("")
def get_entropy_target(
    run_id: str, redis: State, response: Response, _: Annotated[Principal, Depends(allowed("viewer"))]
) -> EntropyTarget:
    """The desired set-point, and from which learner step the one in force holds."""
    set_point = read_set_point(redis, run_id)
    if set_point is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    response.headers["ETag"] = _etag(set_point)
    return _resource(run_id, set_point, read_applied(redis, run_id))


@router.put("", status_code=HTTPStatus.ACCEPTED, responses={200: {"model": EntropyTarget}})
async def put_entropy_target(
    run_id: str,
    change: EntropyTargetChange,
    redis: State,
    request: Request,
    response: Response,
    caller: Annotated[Principal, Depends(allowed("operator"))],
    wait: Annotated[Literal["applied"] | None, Query(description="answer only once it is applied")] = None,
    timeout: Annotated[
        float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="longest wait, seconds")
    ] = 30.0,
) -> EntropyTarget:
    """Change the set-point. 202 while it waits for a step boundary, 200 if it was applied within the wait."""
    set_point = await run_in_threadpool(_change, redis, run_id, change.target, caller.name)
    target = await _settled(redis, run_id, set_point, timeout if wait else 0.0)
    response.headers["Location"] = request.url.path
    response.headers["ETag"] = _etag(set_point)
    if target.status.state == "applied":
        response.status_code = HTTPStatus.OK
    return target


def _change(redis: Redis, run_id: str, target: float, caller: str) -> SetPoint:
    spec = read_spec(redis, run_id)
    if spec is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    control = EntropyControlConfig.model_validate(spec.config["entropy_control"])
    tracks = RegularizerConfig.model_validate(spec.config["regularizer"]).tracks_set_point
    try:
        return change_set_point(redis, run_id, target, caller, control, regularizer_tracks=tracks)
    except SetPointRefused as refused:
        conflict = refused.reason == "no_control"
        raise Problem(
            HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{refused}.",
            kind="no-entropy-control" if conflict else "target-out-of-range",
            errors=[FieldProblem(field="body.target", value=repr(refused.value), allowed=refused.allowed)],
        ) from None


async def _settled(redis: Redis, run_id: str, set_point: SetPoint, timeout: float) -> EntropyTarget:
    """Poll, ever more slowly, until `set_point` is applied or superseded, at most `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        applied = await run_in_threadpool(read_applied, redis, run_id)
        target = _resource(run_id, set_point, applied)
        remaining = deadline - time.monotonic()
        if target.status.state != "pending" or remaining <= 0:
            return target
        await asyncio.sleep(min(pause, remaining))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _resource(run_id: str, set_point: SetPoint, applied: Applied | None) -> EntropyTarget:
    in_force = applied.generation if applied else 0
    if in_force == set_point.generation:
        state = "applied"
    else:
        state = "superseded" if in_force > set_point.generation else "pending"
    return EntropyTarget(
        spec=EntropyTargetSpec(target=set_point.target),
        status=EntropyTargetStatus(
            state=state,
            generation=applied.generation if applied else None,
            applied_from_step=applied.step if applied else None,
            applied_at=datetime.fromtimestamp(applied.at, UTC) if applied else None,
        ),
        metadata=EntropyTargetMetadata(
            run_id=run_id,
            generation=set_point.generation,
            updated_by=set_point.updated_by,
            updated_at=datetime.fromtimestamp(set_point.updated_at, UTC),
            source=set_point.source,
        ),
    )


def _etag(set_point: SetPoint) -> str:
    """The version of the desired state; the status may change under it, so the tag is weak."""
    return f'W/"{set_point.generation}"'
