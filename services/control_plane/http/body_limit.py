"""A limit on the size of request bodies, checked before a route reads them."""

from __future__ import annotations

import re
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control_plane.http.problems import Problem, problem_response

_DIGITS = re.compile(r"[0-9]+")
_LONGEST = 18
"""digits beyond which a length is too large whatever they are; Python refuses to parse thousands of them"""


class BodyLimit:
    """ASGI middleware: answers 413 to a body of more than `limit` bytes, by its Content-Length or as it arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = f"A request body may have at most {self._limit:,} bytes."
        announced = Headers(scope=scope).get("content-length", "")
        if _DIGITS.fullmatch(announced) and (len(announced) > _LONGEST or int(announced) > self._limit):
            response = problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, refusal, scope["path"])
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, refusal)
            return message

        await self._app(scope, counted, send)
