"""Authentication and authorisation: a bearer token has one scope, on one run or on every run, and a rate limit.

Refusals come in this order. 401: a token that is valid nowhere; it is not counted, so an unknown token costs Redis no
memory. 429: too many requests of a valid token; it comes before the next two, so refused requests count as well. 404: a
run that the token may not read, the same answer as for a run that does not exist. 403: a scope that is too small.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis import Redis

from services.access import tokens
from services.access.tokens import Grant, Principal, Scope, authenticate, token_keys, valid_token_read
from services.control_plane.http.problems import Problem
from services.control_plane.http.rate_limit import admission, admit
from services.redis.query import Read, combine, fetch
from services.run.ids import is_run_id

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, description="A token of the run.")


async def redis_of(request: Request) -> Redis:
    """The Redis client of this process."""
    return request.app.state.redis


async def bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The token of the request; 401 without one."""
    if credentials is None or not credentials.credentials:
        raise _unauthorised(
            "A bearer token is required: `Authorization: Bearer <token>`.", 'Bearer realm="scope-rl"'
        )
    return credentials.credentials


def origin_of(request: Request) -> str:
    """The address of the client, as the connection gives it."""
    return request.client.host if request.client else "unknown"


RedisClient = Annotated[Redis, Depends(redis_of)]
Token = Annotated[str, Depends(bearer_token)]


def visible_runs(request: Request, redis: RedisClient, token: Token) -> list[str]:
    """A dependency: the runs that this token may read. Refuses with 401 or 429."""
    visible = _visible(redis, token)
    admit(request, redis, token)
    return visible


def own_grants(request: Request, redis: RedisClient, token: Token) -> list[Grant]:
    """A dependency: what this token is valid for. Refuses with 401 or 429."""
    found = tokens.grants(redis, token)
    if not found:
        raise _invalid(redis, token)
    admit(request, redis, token)
    return found


def reading(needed: Scope, wanted: Callable[[str], Read[T]]) -> Callable[[str, Request, Redis, str], T]:
    """A dependency: the result of `wanted` for the run of the path, if the caller holds at least `needed` on it.

    One round trip to Redis authenticates, counts the request and reads. Refuses with 401, 429, 404 or 403, in this
    order; then raises what `wanted` raises.
    """

    def check(run_id: str, request: Request, redis: RedisClient, token: Token) -> T:
        return _allowed(needed, run_id, request, redis, token, wanted)[1]

    return check


def allowed(needed: Scope) -> Callable[[str, Request, Redis, str], Principal]:
    """A dependency: the caller, if it holds at least `needed` on the run of the path. Refuses as `reading` does."""

    def check(run_id: str, request: Request, redis: RedisClient, token: Token) -> Principal:
        return _allowed(needed, run_id, request, redis, token, lambda _: _NOTHING)[0]

    return check


def _allowed(
    needed: Scope,
    run_id: str,
    request: Request,
    redis: Redis,
    token: str,
    wanted: Callable[[str], Read[T]],
) -> tuple[Principal, T]:
    if is_run_id(run_id):
        record, admitted, documents = fetch(
            redis,
            combine(
                valid_token_read(run_id, token),
                # Evaluated later: a caller who may not read the run learns nothing of its limits and documents.
                admission(request, token, token_keys(run_id)).deferred(),
                wanted(run_id).deferred(),
            ),
        )
        if record is not None:
            admitted()
            principal = Principal(record.name, record.scope)
            _needs(principal, needed)
            return principal, documents()
    visible = _visible(redis, token)
    admit(request, redis, token)
    raise Problem(
        HTTPStatus.NOT_FOUND,
        f"There is no run {run_id!r} that this token may read; it may read: {_named(visible)}.",
    )


def allowed_everywhere(needed: Scope) -> Callable[[Request, Redis, str], Principal]:
    """A dependency: the caller, if it holds at least `needed` on every run. Refuses with 401, 429 or 403."""

    def check(request: Request, redis: RedisClient, token: Token) -> Principal:
        principal = authenticate(redis, None, token)
        if principal is None:
            _visible(redis, token)  # 401 unless the token is valid on some run
        admit(request, redis, token)
        if principal is None:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"This token is valid for single runs; this request needs the scope {needed} on every run.",
                headers=_INSUFFICIENT,
            )
        _needs(principal, needed)
        return principal

    return check


_NOTHING: Read[None] = combine().map(lambda _: None)
_INSUFFICIENT = {"WWW-Authenticate": 'Bearer realm="scope-rl", error="insufficient_scope"'}
_MOST_NAMED = 5


def _needs(principal: Principal, needed: Scope) -> None:
    if not principal.may(needed):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"The token {principal.name!r} has the scope {principal.scope}; this request needs {needed}.",
            headers=_INSUFFICIENT,
        )


def _visible(redis: Redis, token: str) -> list[str]:
    visible = tokens.visible_runs(redis, token)
    if visible is None:
        raise _invalid(redis, token)
    return visible


def _invalid(redis: Redis, token: str) -> Problem:
    # Only its owner can name an expired token, so that nobody else learns that it existed.
    detail = "This token has expired." if tokens.has_expired(redis, token) else "This token is not valid."
    return _unauthorised(detail, 'Bearer realm="scope-rl", error="invalid_token"')


def _named(run_ids: list[str]) -> str:
    more = len(run_ids) - _MOST_NAMED
    return ", ".join([*run_ids[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]) or "none"


def _unauthorised(detail: str, challenge: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
