"""Route of a run's curves: fields of its step records over a range of steps, averaged down to what a chart can show."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query

from services.control_plane import problems
from services.control_plane.auth import State, allowed
from services.control_plane.problems import Problem
from services.control_plane.schemas import FieldProblem, MetricSeries
from services.control_plane.strict_route import StrictRoute
from services.metrics import StepRecord
from services.run_state import read_spec
from services.step_records import read_series
from services.tokens import Principal

HEADLINE = "entropy,set_point,temperature,alpha,surprisal_exponent,reward,step_seconds,queue_unread"
MOST_ROWS = 2000
_NAMES = frozenset(field.name for field in msgspec.structs.fields(StepRecord)) - {"alarms"}

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/runs/{run_id}/metrics",
    tags=["metrics"],
    responses=problems.RESPONSES,
)


@router.get("")
def get_metrics(
    run_id: str,
    redis: State,
    _: Annotated[Principal, Depends(allowed("viewer"))],
    fields: Annotated[
        str, Query(max_length=2000, description="names of the step record, by commas; maps as name/key")
    ] = HEADLINE,
    first: Annotated[int, Query(ge=0, le=10**12, description="learner step")] = 0,
    last: Annotated[
        int | None, Query(ge=0, le=10**12, description="learner step; the newest when absent")
    ] = None,
    rows: Annotated[int, Query(ge=1, le=MOST_ROWS, description="longest answer")] = 500,
) -> MetricSeries:
    """Columns of means over equally many steps. Only the surviving lineage has records."""
    names = list(dict.fromkeys(name.strip() for name in fields.split(",") if name.strip()))
    for name in names or [fields]:
        if name.partition("/")[0] not in _NAMES:
            allowed_names = ", ".join(sorted(_NAMES))
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"query.fields = {name[:80]!r}: there is no such field of a step record; there are {allowed_names}.",
                kind="invalid-request",
                errors=[FieldProblem(field="query.fields", value=repr(name[:80]), allowed=allowed_names)],
            )
    if read_spec(redis, run_id) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    series = read_series(redis, run_id, names, first, last, rows)
    return MetricSeries(first=series.first, last=series.last, steps=series.steps, values=series.values)
