"""The entropy target: what a change holds, the resource, its history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.control_plane.schemas.base import WHOLE, Resource

Target = Annotated[float, Field(allow_inf_nan=False, description="entropy target H0, nats per token")]


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
    """The run's configured entropy target: the fields of `entropy_control` that make it."""

    target: float | Literal["auto"]
    auto_fraction: float
    schedule: dict[str, Any]


class EntropyTargetSpec(Resource):
    """The desired entropy target."""

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
    """Of the desired entropy target."""

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
