"""Runs: configuration, progress, metrics and audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from services.control_plane.schemas.base import Resource
from services.run.phases import Phase


class MetricSeries(Resource):
    """The resource `/v1/runs/{id}/metrics`: columns of equal length."""

    first: int
    last: int
    """the range of learner steps read; `last` is less than `first` if it is empty"""
    steps: list[int]
    """the last learner step of each row"""
    values: dict[str, list[float | None]]
    """field → mean over the steps of each row; null where no step has a number"""
    lowest: dict[str, list[float | None]] = Field(default={})
    highest: dict[str, list[float | None]] = Field(default={})
    """field → smallest and largest value among the steps of each row; empty without `extremes=true`"""


class RunSpecView(Resource):
    """The run's configuration and desired state."""

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
    """The run's progress."""

    phase: Phase
    phase_since: datetime | None
    """when the phase began"""
    phase_detail: str | None
    """how far the phase is, for people"""
    step: int
    of: int
    heartbeat_at: datetime
    seconds_since_heartbeat: float
    stale: bool
    """whether the run has not ended and its driver and learner have been silent for more than 30 seconds"""
    error: str | None
    record: dict[str, Any] | None
    """the newest step record"""
    generators: dict[str, dict[str, Any]]
    """the newest heartbeat of each generator, by id"""
    evaluations: list[EvaluationView]
    """in order of learner steps"""
    checkpoints_pending: int
    """requested and not written yet"""


class RunMetadata(Resource):
    """Identity and origin of the run."""

    id: str
    config_hash: str
    started_at: datetime
    versions: dict[str, str]
    recorded_at: datetime | None
    """for a run that is shown from its files: when they were last written; null: it is live"""


class Run(Resource):
    """The resource `/v1/runs/{id}`."""

    metadata: RunMetadata
    spec: RunSpecView
    status: RunStatusView


class RunSummary(Resource):
    """A run in the list."""

    id: str
    phase: Phase
    phase_since: datetime | None
    """when the phase began"""
    phase_detail: str | None
    """how far the phase is, for people"""
    control: Literal["run", "pause", "stop"]
    """the desired state"""
    step: int
    of: int
    started_at: datetime
    heartbeat_at: datetime
    seconds_since_heartbeat: float
    stale: bool
    """whether the run has not ended and its driver and learner have been silent for more than 30 seconds"""
    error: str | None
    entropy: float | None
    entropy_target: float | None
    saturated: bool
    reward: float | None
    alarms: list[str]
    """of the newest step record, as in `RunStatusView.record`; without a record null, false and empty"""
    evaluation: EvaluationView | None
    """the held-out results stored last"""
    recorded_at: datetime | None
    """as in `RunMetadata`"""


class RunList(Resource):
    """The resource `/v1/runs`: the runs that the token may read, by id."""

    runs: list[RunSummary]
    unreadable: list[str] = Field(default=[])
    """runs whose documents in Redis are damaged"""
    next: str | None
    """`cursor` of the next page; null at the end"""


class AuditEntry(Resource):
    """One requested change."""

    id: str
    action: str
    by: str
    origin: str
    """the address of the client; `local` for a change made without the control plane"""
    before: str
    after: str
    """the state before and after, as text that depends on the action"""
    generation: int | None
    """for a change of the entropy target: its generation"""
    effective_step: int | None
    """for a change of the target: the first learner step under it; null while pending, or if it was superseded"""
    at: datetime


class Audit(Resource):
    """The resource `/v1/runs/{id}/audit`, and `/v1/audit`, newest first."""

    entries: list[AuditEntry]
    next: str | None
    """`cursor` of the next page, of older entries; null at the end"""
