"""Routes of runs: the list, one run, and the requests to pause, resume, stop or checkpoint it."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from redis import Redis

from services.access.tokens import Principal
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, allowed, origin_of, reading, visible_runs
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.runs import (
    EvaluationView,
    Run,
    RunList,
    RunMetadata,
    RunSpecView,
    RunStatusView,
    RunSummary,
)
from services.redis.query import TIME, Read, combine, fetch
from services.run.control import Action, Desired, Refused, State, desired_read, request_action, state_read
from services.run.heartbeats import generators_read
from services.run.state import DamagedDocument, RunSpec, RunStatus, documents_read, evaluations_read

Operator = Annotated[Principal, Depends(allowed("operator"))]

router = APIRouter(route_class=StrictRoute, prefix="/v1/runs", tags=["runs"], responses=problems.RESPONSES)


@router.get("")
def list_runs(
    redis: RedisClient,
    visible: Annotated[list[str], Depends(visible_runs)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=128, description="`next` of the last page")] = None,
) -> RunList:
    """The runs that the token may read, by id, without those that are still being created.

    `unreadable` lists the runs whose documents in Redis are damaged.
    """
    left = [run_id for run_id in visible if cursor is None or run_id > cursor]
    shown = left[:limit]
    # One round trip for all of them.
    *documents, now = fetch(redis, combine(*(_summary_read(run_id).deferred() for run_id in shown), TIME))
    runs, unreadable = [], []
    for run_id, made in zip(shown, documents, strict=True):
        try:
            (spec, status), control = made()
            if spec and status:
                runs.append(_summary(spec, status, control, now))
        except (DamagedDocument, ValidationError):
            unreadable.append(run_id)
    return RunList(runs=runs, unreadable=unreadable, next=shown[-1] if len(left) > limit else None)


@router.post("/{run_id}:pause", status_code=HTTPStatus.ACCEPTED)
def pause_run(run_id: str, redis: RedisClient, request: Request, caller: Operator) -> Run:
    """Pause at the next step boundary: the learner waits, the generators keep their engines loaded. Idempotent."""
    return _asked(redis, run_id, "pause", request, caller)


@router.post("/{run_id}:resume", status_code=HTTPStatus.ACCEPTED)
def resume_run(run_id: str, redis: RedisClient, request: Request, caller: Operator) -> Run:
    """Resume after a pause. Idempotent."""
    return _asked(redis, run_id, "resume", request, caller)


@router.post("/{run_id}:stop", status_code=HTTPStatus.ACCEPTED)
def stop_run(run_id: str, redis: RedisClient, request: Request, caller: Operator) -> Run:
    """Stop in an orderly way: write a checkpoint, acknowledge its groups, drain the generators. Idempotent."""
    return _asked(redis, run_id, "stop", request, caller)


@router.post("/{run_id}:checkpoint", status_code=HTTPStatus.ACCEPTED)
def checkpoint_run(run_id: str, redis: RedisClient, request: Request, caller: Operator) -> Run:
    """Write a checkpoint at the next step boundary, in addition to the configured ones."""
    return _asked(redis, run_id, "checkpoint", request, caller)


def run_read(run_id: str) -> Read[Run]:
    """The read of a run; raises a 404 problem for one that has not started."""
    return combine(
        documents_read(run_id).map(lambda found: _started(run_id, *found)),
        desired_read(run_id),
        generators_read(run_id),
        evaluations_read(run_id),
        TIME,
    ).map(lambda found: _run(*found))


@router.get("/{run_id}")
async def get_run(run: Annotated[Run, Depends(reading("viewer", run_read))]) -> Run:
    """One run: its configuration, progress, newest step record and generators."""
    return run


def _asked(redis: Redis, run_id: str, action: Action, request: Request, caller: Principal) -> Run:
    fetch(redis, run_read(run_id))
    try:
        request_action(redis, run_id, action, caller.name, origin_of(request))
    except Refused as refused:
        raise Problem(
            HTTPStatus.CONFLICT,
            f"The run {run_id!r} cannot {action}: {refused}.",
            kind="run-ended",
        ) from None
    return fetch(redis, run_read(run_id))


def _started(run_id: str, spec: RunSpec | None, status: RunStatus | None) -> tuple[RunSpec, RunStatus]:
    if spec is None or status is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    return spec, status


def _run(
    documents: tuple[RunSpec, RunStatus],
    asked: Desired,
    generators: dict[str, dict[str, Any]],
    evaluations: list[dict[str, Any]],
    now: float,
) -> Run:
    spec, status = documents
    return Run(
        metadata=RunMetadata(
            id=spec.run_id,
            config_hash=spec.config_hash,
            started_at=datetime.fromtimestamp(spec.started_at, UTC),
            versions=spec.versions,
            recorded_at=_instant(spec.recorded_at),
        ),
        spec=RunSpecView(config=spec.config, control=asked.state),
        status=RunStatusView(
            phase=status.phase,
            phase_since=_instant(status.phase_since),
            phase_detail=status.phase_detail,
            step=status.step,
            of=status.of,
            heartbeat_at=datetime.fromtimestamp(status.heartbeat, UTC),
            seconds_since_heartbeat=max(0.0, now - status.heartbeat),
            stale=status.is_stale(now),
            error=status.error,
            record=status.record,
            generators=generators,
            evaluations=[EvaluationView.model_validate(found) for found in evaluations],
            checkpoints_pending=asked.checkpoints,
        ),
    )


def _summary_read(run_id: str) -> Read[tuple[tuple[RunSpec | None, RunStatus | None], State]]:
    return combine(documents_read(run_id), state_read(run_id)).map(lambda found: (found[0], found[1]))


def _summary(spec: RunSpec, status: RunStatus, control: State, now: float) -> RunSummary:
    record = status.record or {}
    return RunSummary(
        id=spec.run_id,
        phase=status.phase,
        phase_since=_instant(status.phase_since),
        phase_detail=status.phase_detail,
        control=control,
        step=status.step,
        of=status.of,
        started_at=datetime.fromtimestamp(spec.started_at, UTC),
        heartbeat_at=datetime.fromtimestamp(status.heartbeat, UTC),
        seconds_since_heartbeat=max(0.0, now - status.heartbeat),
        stale=status.is_stale(now),
        error=status.error,
        entropy=record.get("entropy"),
        entropy_target=record.get("entropy_target"),
        saturated=bool(record.get("saturated")),
        reward=record.get("reward"),
        alarms=record.get("alarms", []),
        evaluation=None if status.evaluation is None else EvaluationView.model_validate(status.evaluation),
        recorded_at=_instant(spec.recorded_at),
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
