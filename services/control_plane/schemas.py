"""What the control plane says and accepts: resources of spec (desired), status (observed) and metadata.

Shared by the server and `services.client`. Targets are nats per token; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Resource(BaseModel):
    """Base of everything sent."""

    model_config = ConfigDict(frozen=True)


class EntropyTargetChange(BaseModel):
    """Body of `PUT /v1/runs/{id}/entropy-target`. Only a finite JSON number passes: no text, no boolean."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    target: Annotated[float, Field(allow_inf_nan=False, description="set-point H0, nats per token")]


class EntropyTargetSpec(Resource):
    """The desired set-point."""

    target: float


class EntropyTargetStatus(Resource):
    """Which generation the learner works with."""

    state: Literal["pending", "applied", "superseded"]
    """of the generation under `metadata`: awaiting a step boundary, in force, or replaced by a newer one"""
    generation: int | None
    """the generation in force; none before the first step boundary"""
    applied_from_step: int | None
    """the learner step from which the generation in force holds"""
    applied_at: datetime | None


class EntropyTargetMetadata(Resource):
    """Of the desired set-point."""

    run_id: str
    generation: int
    updated_by: str
    updated_at: datetime
    source: Literal["configuration", "api"]


class EntropyTarget(Resource):
    """The resource `/v1/runs/{id}/entropy-target`."""

    spec: EntropyTargetSpec
    status: EntropyTargetStatus
    metadata: EntropyTargetMetadata


class RunSpecView(Resource):
    """What the run was asked to be."""

    config: dict[str, Any]
    control: Literal["run", "stop"]
    """the desired state"""


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
    """The resource `/v1/runs`: the runs that the token may see."""

    runs: list[RunSummary]


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
