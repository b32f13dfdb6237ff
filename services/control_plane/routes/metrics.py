"""Route of a run's metrics: fields of its step records over a range of steps, averaged to the resolution of a chart."""

from __future__ import annotations

from functools import lru_cache, partial
from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from redis import Redis
from starlette.responses import Response

from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, Token, reading
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.base import FieldProblem
from services.control_plane.schemas.runs import MetricSeries
from services.records.redis_records import Extent, extent_read, read_series
from services.records.step_record import StepRecord
from services.redis.keys import RunKeys
from services.redis.query import Read, combine, command

HEADLINE = "entropy,entropy_target,temperature,alpha,surprisal_exponent,reward,step_seconds,queue_unread"
MOST_ROWS = 2000
ANSWERS_KEPT = 16
"""answers cached per process; the longest has a few MB"""
_NAMES = frozenset(field.name for field in msgspec.structs.fields(StepRecord)) - {"alarms", "alarm_kinds"}

router = APIRouter(
    route_class=StrictRoute,
    prefix="/v1/runs/{run_id}/metrics",
    tags=["metrics"],
    responses=problems.RESPONSES,
)


class SeriesCache:
    """Caches answers. The key includes the range of the records, so a cached answer is never outdated."""

    def __init__(self, redis: Redis) -> None:
        self.answer = lru_cache(maxsize=ANSWERS_KEPT)(partial(_answer, redis))


def _answer(
    redis: Redis,
    run_id: str,
    extent: Extent,
    names: tuple[str, ...],
    first: int,
    last: int | None,
    rows: int,
    extremes: bool,
) -> bytes:
    series = read_series(redis, run_id, extent, names, first, last, rows, extremes)
    return MetricSeries(**series._asdict()).model_dump_json().encode()


@router.get("", response_model=MetricSeries)
def get_metrics(
    run_id: str,
    request: Request,
    redis: RedisClient,
    token: Token,
    fields: Annotated[
        str,
        Query(
            max_length=2000,
            description="fields of the step record, separated by commas; an entry of a map as name/key",
        ),
    ] = HEADLINE,
    first: Annotated[int, Query(ge=0, le=10**12, description="first learner step")] = 0,
    last: Annotated[
        int | None, Query(ge=0, le=10**12, description="last learner step; default: the newest")
    ] = None,
    rows: Annotated[int, Query(ge=1, le=MOST_ROWS, description="most rows in the answer")] = 500,
    extremes: Annotated[
        bool, Query(description="also the smallest and the largest value among the steps of each row")
    ] = False,
) -> Response:
    """Columns of means, each row over the same number of steps. Records of the surviving lineage only."""
    started, extent = reading("viewer", _extent_read)(run_id, request, redis, token)
    names = list(dict.fromkeys(name.strip() for name in fields.split(",") if name.strip()))
    for name in names or [fields]:
        if name.partition("/")[0] not in _NAMES:
            allowed_names = ", ".join(sorted(_NAMES))
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"query.fields = {name[:80]!r}: a step record has no such field; it has {allowed_names}.",
                kind="invalid-request",
                errors=[FieldProblem(field="query.fields", value=repr(name[:80]), allowed=allowed_names)],
            )
    if not started:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    cache: SeriesCache = request.app.state.series
    body = cache.answer(run_id, extent, tuple(names), first, last, rows, extremes)
    return Response(body, media_type="application/json")


def _extent_read(run_id: str) -> Read[tuple[bool, Extent]]:
    """Whether the run has started, and how far its records go."""
    started = command(bool, "EXISTS", RunKeys(run_id).spec)
    return combine(started, extent_read(run_id)).map(lambda found: (found[0], found[1]))
