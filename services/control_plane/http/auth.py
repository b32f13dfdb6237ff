"""Who may do what: a bearer token has one scope, on one run or on every run, and a rate."""

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
    """The client of this process."""
    return request.app.state.redis


async def bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The token of the request; 401 without one."""
    if credentials is None or not credentials.credentials:
        raise _unauthorised(
            "A bearer token is required: `Authorization: Bearer <token>`.", 'Bearer realm="scope-rl"'
        )
    return credentials.credentials


def origin_of(request: Request) -> str:
    """The address that the request came from."""
    return request.client.host if request.client else "unknown"


State = Annotated[Redis, Depends(redis_of)]
Token = Annotated[str, Depends(bearer_token)]


def visible_runs(request: Request, redis: State, token: Token) -> list[str]:
    """The runs that this token may see; 401 for a token that is valid nowhere."""
    visible = _visible(redis, token)
    admit(request, redis, token)
    return visible


def own_grants(request: Request, redis: State, token: Token) -> list[Grant]:
    """What this token is valid for; 401 for one that is valid nowhere."""
    found = tokens.grants(redis, token)
    if not found:
        raise _invalid()
    admit(request, redis, token)
    return found


def reading(needed: Scope, wanted: Callable[[str], Read[T]]) -> Callable[[str, Request, Redis, str], T]:
    """A dependency: what a caller who holds at least `needed` reads of the run of the path.

    One round trip finds the caller, counts the request and reads. 401 for a token that is valid nowhere, 404 for a run
    that the token cannot see, 403 for a scope too small, 429 for a token that calls too often. What `wanted` raises
    about the documents is raised after these.
    """

    def check(run_id: str, request: Request, redis: State, token: Token) -> T:
        return _allowed(needed, run_id, request, redis, token, wanted)[1]

    return check


def allowed(needed: Scope) -> Callable[[str, Request, Redis, str], Principal]:
    """A dependency: the caller, who holds at least `needed` on the run of the path; refuses as `reading` does."""

    def check(run_id: str, request: Request, redis: State, token: Token) -> Principal:
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
                # Who may not see the run is told that, and nothing of limits and documents.
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
        f"There is no run {run_id!r} that this token may see; it sees: {_named(visible)}.",
    )


def allowed_everywhere(needed: Scope) -> Callable[[Request, Redis, str], Principal]:
    """A dependency: the caller, who holds at least `needed` on every run."""

    def check(request: Request, redis: State, token: Token) -> Principal:
        principal = authenticate(redis, None, token)
        if principal is None:
            _visible(redis, token)
        admit(request, redis, token)
        if principal is None:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"This token holds for single runs; this needs {needed} on every run.",
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
            f"The token {principal.name!r} has the scope {principal.scope}; this needs {needed}.",
            headers=_INSUFFICIENT,
        )


def _visible(redis: Redis, token: str) -> list[str]:
    visible = tokens.visible_runs(redis, token)
    if visible is None:
        raise _invalid()
    return visible


def _invalid() -> Problem:
    return _unauthorised("This token is not valid.", 'Bearer realm="scope-rl", error="invalid_token"')


def _named(run_ids: list[str]) -> str:
    more = len(run_ids) - _MOST_NAMED
    return ", ".join([*run_ids[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]) or "none"


def _unauthorised(detail: str, challenge: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})
