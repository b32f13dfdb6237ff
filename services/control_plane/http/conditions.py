"""Conditional and repeatable changes: If-Match names the state that it is based on, Idempotency-Key the request."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from redis import Redis
from starlette.responses import Response

from services.control_plane.http.auth import Token
from services.control_plane.http.entity_tags import entity_tags
from services.control_plane.http.problems import Problem
from services.control_plane.schemas.base import FieldProblem
from services.redis.idempotency import (
    Answer,
    FirstIsRunning,
    IdempotentRequest,
    idempotent_request,
    keep_answer,
    kept_answer,
)

_GENERATION = re.compile(r"[1-9][0-9]{0,17}")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
ANSWER_SECONDS = 10.0
"""longest time that a request takes beyond the wait that the caller asked for"""

IfMatch = Annotated[
    str | None,
    Header(
        description='ETag you last read, such as "7"; the change is refused if the target changed since. '
        "* skips the check"
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="1 to 255 printable ASCII characters without spaces; a repetition within 24 hours is not made "
        "again and gets the first answer"
    ),
]


def etag(generation: int) -> str:
    """The ETag of a generation. It identifies the desired state (`spec`), not the observed one (`status`)."""
    return f'"{generation}"'


async def known_generations(request: Request, if_match: IfMatch = None) -> frozenset[int] | None:
    """The generations in If-Match; None for `*`. Refuses with 428 without the header, 422 for a malformed one."""
    if if_match is None:
        raise Problem(
            HTTPStatus.PRECONDITION_REQUIRED,
            "Send the ETag you last read in If-Match; the change is refused if the target changed since. * skips the "
            "check.",
            kind="precondition-required",
        )
    given = request.headers.getlist("if-match")
    if [value.strip() for value in given] == ["*"]:
        return None
    tags = entity_tags(given)
    if not tags:
        raise _bad_header("if-match", ", ".join(given), '* or a list of ETags, such as "7"')
    # RFC 9110: If-Match compares strongly, so a weak tag never matches. Neither does one that is not a generation.
    return frozenset(int(tag.opaque) for tag in tags if not tag.weak and _GENERATION.fullmatch(tag.opaque))


class Repeatable(NamedTuple):
    """A request that the caller may send again."""

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
    """A dependency: the request and its idempotency key. Refuses with 422 for a malformed key."""
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
    try:
        kept = await run_in_threadpool(kept_answer, redis, request)
    except FirstIsRunning:
        raise Problem(
            HTTPStatus.CONFLICT,
            "The first request with this Idempotency-Key is still in progress. Try again.",
            kind="request-running",
            headers={"Retry-After": "1"},
        ) from None
    return None if kept is None else _response(kept, {"Idempotency-Replayed": "true"})


def key_reused() -> Problem:
    """The problem of an idempotency key that another request has used."""
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
