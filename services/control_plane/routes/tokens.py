"""Routes of tokens: callers read their own; admins manage those of a run and those valid for every run."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from redis import Redis

from services.access import tokens
from services.access.tokens import NAME_PATTERN, Grant, Principal, TokenRecord
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, allowed, allowed_everywhere, origin_of, own_grants
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.tokens import (
    GrantView,
    NewToken,
    OwnToken,
    TokenCreated,
    TokenList,
    TokenView,
)
from services.redis.query import server_time

Admin = Annotated[Principal, Depends(allowed("admin"))]
AdminOfAll = Annotated[Principal, Depends(allowed_everywhere("admin"))]
Name = Annotated[str, Path(pattern=rf"^{NAME_PATTERN}$")]

router = APIRouter(route_class=StrictRoute, tags=["tokens"], responses=problems.RESPONSES)


@router.get("/v1/token")
def get_own_token(found: Annotated[list[Grant], Depends(own_grants)]) -> OwnToken:
    """The name of the presented token, its scopes, and when it expires."""
    return OwnToken(
        grants=[
            GrantView(
                run_id=run_id, name=record.name, scope=record.scope, expires_at=_moment(record.expires_at)
            )
            for run_id, record in found
        ]
    )


@router.get("/v1/runs/{run_id}/tokens")
def list_tokens(run_id: str, redis: RedisClient, _: Admin) -> TokenList:
    """The run's tokens by name, including expired ones, without the tokens themselves."""
    return _listed(redis, run_id)


@router.post("/v1/runs/{run_id}/tokens", status_code=HTTPStatus.CREATED)
def create_token(
    run_id: str, wanted: NewToken, redis: RedisClient, request: Request, response: Response, caller: Admin
) -> TokenCreated:
    """Create a token for the run. Only this answer contains it."""
    return _created(redis, run_id, wanted, request, response, caller)


@router.delete("/v1/runs/{run_id}/tokens/{name}", status_code=HTTPStatus.NO_CONTENT)
def revoke_token(run_id: str, name: Name, redis: RedisClient, request: Request, caller: Admin) -> None:
    """Revoke a token with immediate effect."""
    _revoked(redis, run_id, name, request, caller)


@router.get("/v1/tokens")
def list_service_tokens(redis: RedisClient, _: AdminOfAll) -> TokenList:
    """The tokens that are valid for every run."""
    return _listed(redis, None)


@router.post("/v1/tokens", status_code=HTTPStatus.CREATED)
def create_service_token(
    wanted: NewToken, redis: RedisClient, request: Request, response: Response, caller: AdminOfAll
) -> TokenCreated:
    """Create a token for every run, including future ones."""
    return _created(redis, None, wanted, request, response, caller)


@router.delete("/v1/tokens/{name}", status_code=HTTPStatus.NO_CONTENT)
def revoke_service_token(name: Name, redis: RedisClient, request: Request, caller: AdminOfAll) -> None:
    """Revoke a token for every run with immediate effect."""
    _revoked(redis, None, name, request, caller)


def _listed(redis: Redis, run_id: str | None) -> TokenList:
    now = server_time(redis)
    return TokenList(tokens=[_view(record, now) for record in tokens.tokens_of(redis, run_id)])


def _created(
    redis: Redis,
    run_id: str | None,
    wanted: NewToken,
    request: Request,
    response: Response,
    caller: Principal,
) -> TokenCreated:
    token = tokens.new_token()
    try:
        record = tokens.register_token(
            redis,
            run_id,
            token,
            wanted.name,
            wanted.scope,
            seconds=wanted.expires_in_seconds,
            replace=wanted.replace,
            by=caller.name,
            origin=origin_of(request),
        )
    except tokens.NameTaken as taken:
        raise Problem(HTTPStatus.CONFLICT, str(taken), kind="name-taken") from None
    response.headers["Cache-Control"] = "no-store"
    return TokenCreated(token=token, **_view(record, record.created_at).model_dump())


def _revoked(redis: Redis, run_id: str | None, name: str, request: Request, caller: Principal) -> None:
    if not tokens.revoke_token(redis, run_id, name, by=caller.name, origin=origin_of(request)):
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no token named {name!r}.")


def _view(record: TokenRecord, now: float) -> TokenView:
    return TokenView(
        name=record.name,
        scope=record.scope,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        created_by=record.created_by,
        expires_at=_moment(record.expires_at),
        expired=tokens.is_expired(record, now),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
