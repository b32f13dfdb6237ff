"""Probes, without authentication: liveness of the process, its connection to Redis, liveness of a run's learner."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.base import Health
from services.redis.query import server_time
from services.run.ids import is_run_id
from services.run.state import read_status

SILENT_SECONDS = 120.0
"""seconds without a heartbeat after which a running or paused run is not ready"""
_WORKING = ("running", "paused")

router = APIRouter(route_class=StrictRoute, tags=["health"], responses=problems.RESPONSES)


@router.get("/healthz")
def healthz() -> Health:
    """Liveness: this process answers. It does not check Redis, which a restart of this process would not repair."""
    return Health(status="ok")


@router.get("/readyz")
def readyz(
    redis: RedisClient,
    run: Annotated[
        str | None, Query(max_length=128, description="also check that this run's learner is alive")
    ] = None,
) -> Health:
    """Readiness: Redis answers; with `run`, its learner or driver has sent a heartbeat within 120 s. Otherwise 503."""
    redis.ping()
    if run is not None:
        status = read_status(redis, run) if is_run_id(run) else None
        if status is None or status.phase not in _WORKING:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, f"The run {run!r} is not running.", kind="not-ready"
            )
        silent = server_time(redis) - status.heartbeat
        if silent > SILENT_SECONDS:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The run {run!r} has had no heartbeat for {silent:.0f} seconds.",
                kind="not-ready",
            )
    return Health(status="ok")
