"""What the routes of tokens say and accept. Shared by the server and `services.control_plane.client`."""

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
    """end a valid token of that name"""


class TokenView(Resource):
    """What is known of a token."""

    name: str
    scope: Scope
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    expired: bool


class TokenCreated(TokenView):
    """A token that was just made."""

    token: str
    """shown once"""


class GrantView(Resource):
    """What the presented token may do, where."""

    run_id: str | None
    """null: on every run that has no grant of its own"""
    name: str
    scope: Scope
    expires_at: datetime | None


class OwnToken(Resource):
    """The resource `/v1/token`: the presented token, never its text. Nearly every token has one grant."""

    grants: list[GrantView]


class TokenList(Resource):
    """The resource `/v1/runs/{id}/tokens`, and `/v1/tokens`."""

    tokens: list[TokenView]
