"""Routes of runs: the listing, one run, and the request to stop."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from redis import Redis

from services.control_plane import problems
from services.control_plane.auth import State, allowed, visible_runs
from services.control_plane.problems import Problem
from services.control_plane.schemas import Run, RunList, RunMetadata, RunSpecView, RunStatusView, RunSummary
from services.run_state import (
    RunSpec,
    RunStatus,
    generators,
    read_spec,
    read_status,
    request_stop,
    server_time,
    stop_requested,
)
from services.tokens import Principal

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=problems.RESPONSES)


@router.get("")
def list_runs(redis: State, visible: Annotated[list[str], Depends(visible_runs)]) -> RunList:
    """The runs that the token may see."""
    return RunList(runs=[_summary(*_documents(redis, run_id)) for run_id in visible])


@router.post("/{run_id}:stop", status_code=HTTPStatus.ACCEPTED)
def stop_run(run_id: str, redis: State, _: Annotated[Principal, Depends(allowed("operator"))]) -> Run:
    """Ask the run to stop in order: checkpoint, acknowledge, drain. Idempotent."""
    _documents(redis, run_id)
    request_stop(redis, run_id)
    return _run(redis, run_id)


@router.get("/{run_id}")
def get_run(run_id: str, redis: State, _: Annotated[Principal, Depends(allowed("viewer"))]) -> Run:
    """One run: its configuration, progress, newest step record and generators."""
    return _run(redis, run_id)


def _documents(redis: Redis, run_id: str) -> tuple[RunSpec, RunStatus]:
    spec, status = read_spec(redis, run_id), read_status(redis, run_id)
    if spec is None or status is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    return spec, status


def _run(redis: Redis, run_id: str) -> Run:
    spec, status = _documents(redis, run_id)
    return Run(
        metadata=RunMetadata(
            id=run_id,
            config_hash=spec.config_hash,
            started_at=datetime.fromtimestamp(spec.started_at, UTC),
            versions=spec.versions,
        ),
        spec=RunSpecView(config=spec.config, control="stop" if stop_requested(redis, run_id) else "run"),
        status=RunStatusView(
            phase=status.phase,
            step=status.step,
            of=status.of,
            heartbeat_at=datetime.fromtimestamp(status.heartbeat, UTC),
            seconds_since_heartbeat=max(0.0, server_time(redis) - status.heartbeat),
            error=status.error,
            record=status.record,
            generators=generators(redis, run_id),
        ),
    )


def _summary(spec: RunSpec, status: RunStatus) -> RunSummary:
    return RunSummary(
        id=spec.run_id,
        phase=status.phase,
        step=status.step,
        of=status.of,
        started_at=datetime.fromtimestamp(spec.started_at, UTC),
        heartbeat_at=datetime.fromtimestamp(status.heartbeat, UTC),
    )
