"""Refuses every change, for a control plane that shows recorded runs."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from services.control_plane.http.problems import problem_response

READS = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSAL = (
    "This is a view of recorded runs, which cannot be changed. `scope train --resume RUN` continues a run, and the "
    "control plane of a live run accepts changes."
)


class ReadOnly:
    """ASGI middleware: answers 403 to every request that is not a read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["method"] not in READS:
            response = problem_response(HTTPStatus.FORBIDDEN, REFUSAL, scope["path"], kind="read-only")
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)
