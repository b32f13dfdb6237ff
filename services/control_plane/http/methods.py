"""The methods of a path: HEAD is answered wherever GET is, OPTIONS and a refusal (405) name them all."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods of a path, sorted; empty for a path without a route."""
    matching = [route for route in app.routes if isinstance(route, Route) and route.path_regex.match(path)]
    # `/v1/runs/{run_id}` matches `/v1/runs/a:pause` too, but no run id has a colon.
    actions = [route for route in matching if ":" in route.path]
    methods = {method for route in actions or matching for method in route.methods or ()}
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods | {"OPTIONS"}) if methods else []


class Methods:
    """ASGI middleware: answers HEAD as GET without its body, and OPTIONS with the methods of the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope.get("method")
        if method == "OPTIONS":
            every = allowed_methods(scope["app"], scope["path"])
            if scope["path"] == "*":
                every = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
            if every:
                answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(every)})
                await answer(scope, receive, send)
                return
        if method == "HEAD" and "GET" in allowed_methods(scope["app"], scope["path"]):
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
            return
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    """Passes on the head of an answer and an empty body; an endless answer thereby ends."""
    ended = False

    async def head_only(message: Message) -> None:
        nonlocal ended
        if message["type"] != "http.response.body":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return head_only
