"""Runs: what they are, how they go, their curves and their audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from services.control_plane.schemas.base import Resource


class MetricSeries(Resource):
    """The resource `/v1/runs/{id}/metrics`: columns of equal length."""

    first: int
    last: int
    """learner steps that were looked at; `last` is below `first` where there is none"""
    steps: list[int]
    """the last step of each row"""
    values: dict[str, list[float | None]]
    """field → mean over the steps of each row; null where none has a number"""


class RunSpecView(Resource):
    """What the run was asked to be."""

    config: dict[str, Any]
    control: Literal["run", "pause", "stop"]
    """the desired state"""


class EvaluationView(Resource):
    """Held-out results of one policy version."""

    step: int
    """learner steps done"""
    pass_at_k: dict[int, float]
    """k → unbiased estimate, mean over the problems"""


class RunStatusView(Resource):
    """How the run goes."""

    phase: str
    step: int
    of: int
    heartbeat_at: datetime
    seconds_since_heartbeat: float
    error: str | None
    record: dict[str, Any] | None
    """the newest step record"""
    generators: dict[str, dict[str, Any]]
    """the newest heartbeat of each generator, by id"""
    evaluations: list[EvaluationView]
    """by learner step"""
    checkpoints_pending: int
    """asked for and not written yet"""


class RunMetadata(Resource):
    """Where the run comes from."""

    id: str
    config_hash: str
    started_at: datetime
    versions: dict[str, str]


class Run(Resource):
    """The resource `/v1/runs/{id}`."""

    metadata: RunMetadata
    spec: RunSpecView
    status: RunStatusView


class RunSummary(Resource):
    """A run in the listing."""

    id: str
    phase: str
    step: int
    of: int
    started_at: datetime
    heartbeat_at: datetime


class RunList(Resource):
    """The resource `/v1/runs`: the runs that the token may see, by id."""

    runs: list[RunSummary]
    unreadable: list[str] = Field(default=[])
    """runs whose documents in Redis are damaged"""
    next: str | None
    """`cursor` of the further ones; null at the end"""


class AuditEntry(Resource):
    """One thing that somebody asked for."""

    id: str
    action: str
    by: str
    origin: str
    """the address that it came from; `local` for one without the control plane"""
    before: str
    after: str
    """what held before and after, in the words of the action"""
    generation: int | None
    """of a change of the entropy target"""
    effective_step: int | None
    """of a change of the target: the learner step from which it holds; null while it waits or if it was superseded"""
    at: datetime


class Audit(Resource):
    """The resource `/v1/runs/{id}/audit`, and `/v1/audit`, newest first."""

    entries: list[AuditEntry]
    next: str | None
    """`cursor` of the older ones; null at the end"""
