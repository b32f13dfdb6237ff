"""What the control plane says and accepts: resources of spec (desired), status (observed) and metadata.

Shared by the server and `services.control_plane.client`. Targets are nats per token; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Resource(BaseModel):
    """Base of everything sent."""

    model_config = ConfigDict(frozen=True)


Target = Annotated[float, Field(allow_inf_nan=False, description="set-point H0, nats per token")]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For an int: JSON knows one kind of number, so 5.0 is 5. Still no text and no boolean."""
OverSteps = Annotated[
    int,
    Field(
        ge=0,
        le=1_000_000,
        description="learner steps over which the target moves there in a line; 0: at once",
    ),
    WHOLE,
]


class EntropyTargetChange(BaseModel):
    """Body of `PUT /v1/runs/{id}/entropy-target`. Only a finite JSON number passes: no text, no boolean."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    target: Target
    over_steps: OverSteps = 0


class EntropyTargetPatch(BaseModel):
    """Body of `PATCH`, a JSON merge patch (RFC 7396) of `spec`: null takes a field away."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    target: Target | None = None
    """null: the configured schedule decides again"""
    over_steps: OverSteps | None = None


class ConfiguredTarget(Resource):
    """The run's configured set-point: the fields of `entropy_control` that make it."""

    target: float | Literal["auto"]
    auto_fraction: float
    schedule: dict[str, Any]


class EntropyTargetSpec(Resource):
    """The desired set-point."""

    target: float | None
    """as a person set it; null: `configured` decides"""
    over_steps: int
    """learner steps over which it moves there from the one in force before"""
    configured: ConfiguredTarget
    """what DELETE returns to"""


class EntropyTargetStatus(Resource):
    """What the learner works with."""

    state: Literal["pending", "applied", "superseded"]
    """of the generation under `metadata`: awaiting a step boundary, in force, or replaced by a newer one"""
    generation: int | None
    """the generation in force; none before the first step boundary"""
    applied_from_step: int | None
    """the learner step from which the generation in force holds"""
    applied_at: datetime | None
    target: float | None
    """in force at learner step `step`; none before the first step boundary, or while `auto` is not measured"""
    step: int | None
    """the newest learner step that began"""
    starting_entropy: float | None
    """of the run's first learner step, nats per token: what the configured target `auto` is a share of"""


class EntropyTargetMetadata(Resource):
    """Of the desired set-point."""

    run_id: str
    generation: int
    updated_by: str
    updated_at: datetime
    source: Literal["configuration", "api"]
    """what decides: the configured schedule, or a target that was set here"""


class EntropyTarget(Resource):
    """The resource `/v1/runs/{id}/entropy-target`."""

    spec: EntropyTargetSpec
    status: EntropyTargetStatus
    metadata: EntropyTargetMetadata


class EntropyTargetEvent(Resource):
    """One entry of the history."""

    id: str
    event: Literal["changed", "applied", "superseded"]
    generation: int
    at: datetime
    target: float | None
    """of `changed`; null where it went back to the configured schedule"""
    over_steps: int
    by: str | None
    """of `changed`: who; of `superseded`: the generation that was applied instead"""
    step: int | None
    """of `applied` and `superseded`: the learner step"""


class EntropyTargetHistory(Resource):
    """The resource `/v1/runs/{id}/entropy-target/history`, newest first."""

    events: list[EntropyTargetEvent]
    next: str | None
    """`cursor` of the older ones; null at the end"""


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
    unreadable: list[str] = []
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
    """of a change of the set-point"""
    effective_step: int | None
    """of a change of the set-point: the learner step from which it holds; null while it waits, or was superseded"""
    at: datetime


class Audit(Resource):
    """The resource `/v1/runs/{id}/audit`, and `/v1/audit`, newest first."""

    entries: list[AuditEntry]
    next: str | None
    """`cursor` of the older ones; null at the end"""


class Health(Resource):
    """Answer of the probes."""

    status: Literal["ok"]


class FieldProblem(Resource):
    """One field that was refused."""

    field: str
    value: str
    allowed: str


class ProblemBody(Resource):
    """RFC 9457 problem details; every answer of 400 and above has this body."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem] = []
