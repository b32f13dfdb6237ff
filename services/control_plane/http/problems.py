"""Problem details (RFC 9457): the body of every refusal and failure of the control plane."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from services.control_plane.http.methods import allowed_methods
from services.control_plane.schemas.base import FieldProblem, ProblemBody
from services.host.terminal import plain
from services.run.state import DamagedDocument

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": {"model": ProblemBody}}
"""Responses of every router: puts the body's schema into the OpenAPI document; `openapi.describe` refers to it."""


def described(description: str) -> dict[str, Any]:
    """A refusal, as the OpenAPI document describes it."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


class Problem(HTTPException):
    """An HTTP error with problem details. `kind` identifies the type of problem to programs."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        kind: str | None = None,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.kind, self.errors = kind, list(errors)


def problem_response(
    status: int,
    detail: str,
    instance: str,
    *,
    kind: str | None = None,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for one problem."""
    body = ProblemBody(
        type=f"urn:scope-rl:problem:{kind}" if kind else "about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        errors=list(errors),
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers=headers, media_type=MEDIA_TYPE)


def response_of(problem: Problem, instance: str) -> JSONResponse:
    """The response for a problem that is not raised inside a route."""
    return problem_response(
        problem.status_code,
        problem.detail,
        instance,
        kind=problem.kind,
        errors=problem.errors,
        headers=problem.headers,
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem body."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(RedisConnectionError, _on_redis_away)
    app.add_exception_handler(RedisTimeoutError, _on_redis_away)
    app.add_exception_handler(DamagedDocument, _on_damaged)
    app.add_exception_handler(Exception, _on_error)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if isinstance(error, Problem):
        return response_of(error, path)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route of the path only.
        headers["Allow"] = ", ".join(allowed_methods(request.app, path))
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        # Raised by Starlette: no route, or no such method on it.
        detail = f"There is no {request.method} {path}."
    return problem_response(error.status_code, detail, path, headers=headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_field_problem(detail) for detail in error.errors()]
    sentences = "; ".join(f"{item.field} = {item.value}: {item.allowed}" for item in problems)
    return problem_response(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        sentences,
        request.scope["path"],
        kind="invalid-request",
        errors=problems,
    )


async def _on_redis_away(request: Request, error: Exception) -> JSONResponse:
    return problem_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The state of the runs cannot be read: Redis does not answer. Try again.",
        request.scope["path"],
        kind="state-unreachable",
        headers={"Retry-After": "2"},
    )


async def _on_damaged(request: Request, error: Exception) -> JSONResponse:
    # The cause quotes the document, which may contain anything: only the place of the damage goes into the log.
    logger.error("%s", plain(str(error)))
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"A document in Redis is damaged: {error}.",
        request.scope["path"],
        kind="state-damaged",
    )


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The control plane failed; its log has the reason.",
        request.scope["path"],
    )


def _field_problem(detail: dict[str, Any]) -> FieldProblem:
    """One error of pydantic or FastAPI, in the words of the API."""
    field = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "json_invalid":
            return FieldProblem(field="body", value="text that is not JSON", allowed=detail["ctx"]["error"])
        case "missing":
            return FieldProblem(field=field, value="absent", allowed=detail["msg"])
        case "extra_forbidden":
            return FieldProblem(field=field, value=_show(detail["input"]), allowed="there is no such field")
        case _:
            return FieldProblem(field=field, value=_show(detail["input"]), allowed=detail["msg"])


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
