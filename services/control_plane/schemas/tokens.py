"""Tokens. Shared by the server and `services.control_plane.client`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.access.tokens import NAME_PATTERN, Scope
from services.control_plane.schemas.base import WHOLE, Resource

LONGEST_SECONDS = 10 * 366 * 24 * 3600


class NewToken(BaseModel):
    """Body of `POST …/tokens`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$", description="who or what will use it")]
    scope: Scope
    expires_in_seconds: Annotated[int, Field(ge=1, le=LONGEST_SECONDS), WHOLE] | None = None
    """null: it does not expire"""
    replace: bool = False
    """revoke the valid token of that name"""


class TokenView(Resource):
    """A token, without its text."""

    name: str
    scope: Scope
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    expired: bool


class TokenCreated(TokenView):
    """A new token."""

    token: str
    """its text, which no other answer contains"""


class GrantView(Resource):
    """A scope of the presented token."""

    run_id: str | None
    """null: every run without a grant of its own"""
    name: str
    scope: Scope
    expires_at: datetime | None


class OwnToken(Resource):
    """The resource `/v1/token`: the grants of the presented token, in most cases one."""

    grants: list[GrantView]


class TokenList(Resource):
    """The resource `/v1/runs/{id}/tokens`, and `/v1/tokens`."""

    tokens: list[TokenView]
