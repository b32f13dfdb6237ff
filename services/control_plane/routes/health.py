"""Probes, open to anyone: is the process alive, can it reach the state of the runs, and does a run's learner live?"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from services.control_plane.http import problems
from services.control_plane.http.auth import State
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.base import Health
from services.redis.query import server_time
from services.run.ids import is_run_id
from services.run.state import read_status

SILENT_SECONDS = 120.0
"""without a heartbeat, after which a run that should work does not"""
_WORKING = ("running", "paused")

router = APIRouter(route_class=StrictRoute, tags=["health"], responses=problems.RESPONSES)


@router.get("/healthz")
def healthz() -> Health:
    """Alive. Says nothing of Redis: a restart of this process would not bring it back."""
    return Health(status="ok")


@router.get("/readyz")
def readyz(
    redis: State,
    run: Annotated[
        str | None, Query(max_length=128, description="also: does this run's learner live?")
    ] = None,
) -> Health:
    """Able to serve: Redis answers, and so does the learner of `run` where it is asked for. Else 503."""
    redis.ping()
    if run is not None:
        status = read_status(redis, run) if is_run_id(run) else None
        if status is None or status.phase not in _WORKING:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, f"The run {run!r} is not at work.", kind="not-ready"
            )
        silent = server_time(redis) - status.heartbeat
        if silent > SILENT_SECONDS:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The run {run!r} has had no heartbeat for {silent:.0f} seconds.",
                kind="not-ready",
            )
    return Health(status="ok")
