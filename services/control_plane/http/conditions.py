"""The conditions of a change: which state the caller knows (If-Match), and that it is made once (Idempotency-Key)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from redis import Redis
from starlette.responses import Response

from services.control_plane.http.auth import Token
from services.control_plane.http.problems import Problem
from services.control_plane.schemas.base import FieldProblem
from services.redis.idempotency import (
    Answer,
    IdempotentRequest,
    first_is_running,
    idempotent_request,
    keep_answer,
    kept_answer,
)

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
ANSWER_SECONDS = 10.0
"""Longest time that an answer takes beyond the wait that the caller asked for."""

IfMatch = Annotated[
    str | None,
    Header(description='ETag of the state that the caller knows, such as "7"; * for whatever it is'),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="1 to 255 printable characters; the same request again within 24 hours gets the same answer"
    ),
]


def etag(generation: int) -> str:
    """Names the desired state (`spec`); what is observed (`status`) changes under it."""
    return f'"{generation}"'


async def known_generations(if_match: IfMatch = None) -> frozenset[int] | None:
    """The generations that If-Match names, None for `*`; 428 without the header, 422 where it is none."""
    if if_match is None:
        raise Problem(
            HTTPStatus.PRECONDITION_REQUIRED,
            "A change needs If-Match with the ETag of the state that it is made from, or * for whatever it is.",
            kind="precondition-required",
        )
    if if_match.strip() == "*":
        return None
    parts = [_ETAG.fullmatch(part.strip()) for part in if_match.split(",")]
    if not all(parts):
        raise _bad_header("if-match", if_match, '* or a list of ETags, such as "7"')
    # RFC 9110: a weak tag never matches here. Neither does one that this resource cannot have.
    strong = [part[2] for part in parts if part is not None and not part[1]]
    return frozenset(int(tag) for tag in strong if re.fullmatch(r"[1-9][0-9]{0,17}", tag))


class Repeatable(NamedTuple):
    """A request that may be sent again."""

    run_id: str
    token: str
    route: str
    key: str | None

    def with_body(self, body: str, wait_seconds: float = 0.0) -> IdempotentRequest | None:
        """The request with this body; None without an idempotency key."""
        if self.key is None:
            return None
        seconds = wait_seconds + ANSWER_SECONDS
        return idempotent_request(self.run_id, self.token, self.route, self.key, body.encode(), seconds)


async def repeatable(
    run_id: str, request: Request, token: Token, idempotency_key: IdempotencyKey = None
) -> Repeatable:
    """A dependency; 422 for a key of another form."""
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise _bad_header(
            "idempotency-key", idempotency_key, "1 to 255 printable ASCII characters without spaces"
        )
    return Repeatable(run_id, token, f"{request.method} {request.url.path}", idempotency_key)


Known = Annotated[frozenset[int] | None, Depends(known_generations)]
Repeat = Annotated[Repeatable, Depends(repeatable)]


async def answered(redis: Redis, request: IdempotentRequest | None, answer: Answer) -> Response:
    """Give the answer, and keep it for a repetition."""
    if request is not None:
        await run_in_threadpool(keep_answer, redis, request, answer)
    return _response(answer)


async def answer_again(redis: Redis, request: IdempotentRequest) -> Response | None:
    """The answer of the first request, or None when it ended without one; 409 while it may still come."""
    kept = await run_in_threadpool(kept_answer, redis, request)
    if kept is not None:
        return _response(kept, {"Idempotency-Replayed": "true"})
    if await run_in_threadpool(first_is_running, redis, request):
        raise Problem(
            HTTPStatus.CONFLICT,
            "The first request with this Idempotency-Key is still being answered. Try again.",
            kind="request-running",
            headers={"Retry-After": "1"},
        )
    return None


def key_reused() -> Problem:
    """The key belongs to another request."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "This Idempotency-Key was used for another request within the last 24 hours.",
        kind="idempotency-key-reused",
    )


def _response(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    return Response(
        answer.body,
        answer.status,
        headers={**answer.headers, **(headers or {})},
        media_type="application/json",
    )


def _bad_header(name: str, value: str, allowed: str) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"header.{name} = {value[:80]!r}: {allowed}",
        kind="invalid-request",
        errors=[FieldProblem(field=f"header.{name}", value=repr(value[:80]), allowed=allowed)],
    )
