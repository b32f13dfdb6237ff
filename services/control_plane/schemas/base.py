"""What the control plane says and accepts: resources of spec (desired), status (observed) and metadata.

Shared by the server and `services.control_plane.client`. Targets are nats per token; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Resource(BaseModel):
    """Base of everything sent."""

    model_config = ConfigDict(frozen=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For an int: JSON knows one kind of number, so 5.0 is 5. Still no text and no boolean."""


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
