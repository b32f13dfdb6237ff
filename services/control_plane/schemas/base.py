"""Base classes of the bodies. A resource has `spec` (the desired state), `status` (the observed one) and `metadata`.

Shared by the server and `services.control_plane.client`. Entropies are nats per token, times RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Resource(BaseModel):
    """Base of every response body."""

    model_config = ConfigDict(frozen=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Lets a strict int accept 5.0 as 5, since JSON has one type of number; text and booleans are still refused."""


class Health(Resource):
    """The answer of the probes."""

    status: Literal["ok"]


class FieldProblem(Resource):
    """One field that was refused."""

    field: str
    value: str
    allowed: str


class ProblemBody(Resource):
    """Problem details (RFC 9457): the body of every answer of 400 and above."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem] = []
