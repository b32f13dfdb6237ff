"""The entropy target: the bodies of a change, the resource, its history."""

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
        description="learner steps of the linear ramp to the target; 0: the whole change at the next step",
    ),
    WHOLE,
]


class EntropyTargetChange(BaseModel):
    """Body of `PUT /v1/runs/{id}/entropy-target`. Numbers must be finite JSON numbers, not text or booleans."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    target: Target
    over_steps: OverSteps = 0


class EntropyTargetPatch(BaseModel):
    """Body of `PATCH`, a JSON merge patch (RFC 7396) of `spec`: null removes a field."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    target: Target | None = None
    """null: return to the configured schedule"""
    over_steps: OverSteps | None = None


class ConfiguredTarget(Resource):
    """The run's configured entropy target: the fields of `entropy_control` that define it."""

    target: float | Literal["auto"]
    auto_fraction: float
    schedule: dict[str, Any]


class EntropyTargetSpec(Resource):
    """The desired entropy target."""

    target: float | None
    """the target that was set; null: `configured` is in effect"""
    over_steps: int
    """learner steps of the linear ramp from the previous target"""
    configured: ConfiguredTarget
    """what DELETE returns to"""


class EntropyTargetStatus(Resource):
    """The entropy target that the learner applies."""

    state: Literal["pending", "applied", "superseded"]
    """state of `metadata.generation`: waiting for a step boundary, in force, or replaced by a newer one before that"""
    generation: int | None
    """the generation in force; null before the first step boundary"""
    applied_from_step: int | None
    """the first learner step under the generation in force"""
    applied_at: datetime | None
    target: float | None
    """the target in force at learner step `step`; null before the first step boundary, or until `auto` is measured"""
    step: int | None
    """the newest learner step that has begun"""
    starting_entropy: float | None
    """entropy at the run's first learner step, nats per token; the configured target `auto` is a fraction of it"""


class EntropyTargetMetadata(Resource):
    """Generation and origin of the desired entropy target."""

    run_id: str
    generation: int
    updated_by: str
    updated_at: datetime
    source: Literal["configuration", "api"]
    """what is in effect: the configured schedule, or a target that was set by the API"""


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
    """for `changed`: the new target; null for a return to the configured schedule"""
    over_steps: int
    by: str | None
    """for `changed`: the caller; for `superseded`: the generation that was applied instead"""
    step: int | None
    """for `applied` and `superseded`: the learner step"""


class EntropyTargetHistory(Resource):
    """The resource `/v1/runs/{id}/entropy-target/history`, newest first."""

    events: list[EntropyTargetEvent]
    next: str | None
    """`cursor` of the next page, of older entries; null at the end"""
