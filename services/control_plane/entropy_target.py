"""Routes of a run's entropy set-point: read it, change it, return to the configured one, wait until it is applied."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
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
    ConfiguredTarget,
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
    reset_set_point,
)
from services.tokens import Principal
from trainer.config import EntropyControlConfig
from trainer.config_regularizer import RegularizerConfig

MAX_WAIT_SECONDS = 60.0
Wait = Annotated[Literal["applied"] | None, Query(description="answer only once it is applied")]
Timeout = Annotated[
    float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="longest wait, seconds")
]
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

router = APIRouter(
    prefix="/v1/runs/{run_id}/entropy-target", tags=["entropy target"], responses=problems.RESPONSES
)


@router.get("")
def get_entropy_target(
    run_id: str, redis: State, response: Response, _: Annotated[Principal, Depends(allowed("viewer"))]
) -> EntropyTarget:
    """The desired set-point, and from which learner step the one in force holds."""
    control, set_point = _steering(redis, run_id)[0], read_set_point(redis, run_id)
    if set_point is None:
        raise _not_started(run_id)
    response.headers["ETag"] = _etag(set_point)
    return _resource(run_id, set_point, read_applied(redis, run_id), control)


@router.put("", status_code=HTTPStatus.ACCEPTED, responses={200: {"model": EntropyTarget}})
async def put_entropy_target(
    run_id: str,
    change: EntropyTargetChange,
    redis: State,
    request: Request,
    response: Response,
    caller: Annotated[Principal, Depends(allowed("operator"))],
    wait: Wait = None,
    timeout: Timeout = 30.0,
) -> EntropyTarget:
    """Change the set-point; it then holds, whatever the configured schedule says.

    202 while it waits for a step boundary, 200 if it was applied within the wait.
    """
    control, tracks = await run_in_threadpool(_steering, redis, run_id)
    set_point = await run_in_threadpool(
        _accepted,
        lambda: change_set_point(
            redis, run_id, change.target, caller.name, control, regularizer_tracks=tracks
        ),
    )
    return await _answer(redis, run_id, set_point, control, request, response, timeout if wait else 0.0)


@router.delete("", status_code=HTTPStatus.ACCEPTED, responses={200: {"model": EntropyTarget}})
async def delete_entropy_target(
    run_id: str,
    redis: State,
    request: Request,
    response: Response,
    caller: Annotated[Principal, Depends(allowed("operator"))],
    wait: Wait = None,
    timeout: Timeout = 30.0,
) -> EntropyTarget:
    """Return to the configured schedule, at the learner step where the run is. Idempotent; answers like PUT."""
    control, tracks = await run_in_threadpool(_steering, redis, run_id)
    set_point = await run_in_threadpool(
        _accepted,
        lambda: reset_set_point(redis, run_id, caller.name, control, regularizer_tracks=tracks),
    )
    return await _answer(redis, run_id, set_point, control, request, response, timeout if wait else 0.0)


def _steering(redis: Redis, run_id: str) -> tuple[EntropyControlConfig, bool]:
    """The run's control block, and whether its regularizer steers towards the set-point as well."""
    spec = read_spec(redis, run_id)
    if spec is None:
        raise _not_started(run_id)
    # Through JSON, because the strict mode of pydantic takes a list for a tuple only there.
    control = EntropyControlConfig.model_validate_json(json.dumps(spec.config["entropy_control"]))
    regularizer = RegularizerConfig.model_validate_json(json.dumps(spec.config["regularizer"]))
    return control, regularizer.tracks_set_point


def _not_started(run_id: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")


def _accepted(change: Callable[[], SetPoint]) -> SetPoint:
    try:
        return change()
    except SetPointRefused as refused:
        field = FieldProblem(field="body.target", value=repr(refused.value), allowed=refused.allowed)
        conflict = refused.reason == "no_control"
        raise Problem(
            HTTPStatus.CONFLICT if conflict else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{refused}.",
            kind="no-entropy-control" if conflict else "target-out-of-range",
            errors=[] if refused.value is None else [field],
        ) from None


async def _answer(
    redis: Redis,
    run_id: str,
    set_point: SetPoint,
    control: EntropyControlConfig,
    request: Request,
    response: Response,
    timeout: float,
) -> EntropyTarget:
    target = await _settled(redis, run_id, set_point, control, timeout)
    response.headers["Location"] = request.url.path
    response.headers["ETag"] = _etag(set_point)
    if target.status.state == "applied":
        response.status_code = HTTPStatus.OK
    return target


async def _settled(
    redis: Redis, run_id: str, set_point: SetPoint, control: EntropyControlConfig, timeout: float
) -> EntropyTarget:
    """Poll, ever more slowly, until `set_point` is applied or superseded, at most `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        applied = await run_in_threadpool(read_applied, redis, run_id)
        target = _resource(run_id, set_point, applied, control)
        remaining = deadline - time.monotonic()
        if target.status.state != "pending" or remaining <= 0:
            return target
        await asyncio.sleep(min(pause, remaining))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _resource(
    run_id: str, set_point: SetPoint, applied: Applied | None, control: EntropyControlConfig
) -> EntropyTarget:
    in_force = applied.generation if applied else 0
    if in_force == set_point.generation:
        state = "applied"
    else:
        state = "superseded" if in_force > set_point.generation else "pending"
    return EntropyTarget(
        spec=EntropyTargetSpec(
            target=set_point.target,
            configured=ConfiguredTarget(
                target=control.target,
                auto_fraction=control.auto_fraction,
                schedule=control.schedule.model_dump(mode="json"),
            ),
        ),
        status=EntropyTargetStatus(
            state=state,
            generation=applied.generation if applied else None,
            applied_from_step=applied.step if applied else None,
            applied_at=datetime.fromtimestamp(applied.at, UTC) if applied else None,
            target=applied.target if applied else None,
            step=applied.target_step if applied else None,
            starting_entropy=set_point.starting_entropy,
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
