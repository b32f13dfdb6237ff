"""What is checked of every request before a route sees it: its host, its path, and the coding of its body."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.control_plane.http.hosts import HostNames
from services.control_plane.http.problems import Problem, response_of
from trainer.config import ControlPlaneConfig

_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/]*)(/.*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class RequestChecks:
    """ASGI middleware: answers with a problem to a request that no route could serve."""

    def __init__(self, app: ASGIApp, config: ControlPlaneConfig) -> None:
        self._app, self._names = app, HostNames(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope, hosts = _origin_form(scope, headers.getlist("host"))
        problem = self._host_refusal(scope, hosts) or _path_refusal(scope) or _coding_refusal(headers)
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await response_of(problem, scope["path"])(scope, receive, send)

    def _host_refusal(self, scope: Scope, hosts: list[str]) -> Problem | None:
        if not hosts and scope["http_version"] == "1.0":
            return None
        server = scope.get("server")
        return self._names.refusal(hosts, server[0] if server else None)


def _origin_form(scope: Scope, hosts: list[str]) -> tuple[Scope, list[str]]:
    """The request with a path as its target, and its hosts: in a target such as `http://host/path` they stand there."""
    found = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if found is None:
        return scope, hosts
    path = found[2] or b"/"
    host = found[1].decode("latin-1")
    return {**scope, "raw_path": path, "path": unquote(path.decode("latin-1"))}, [host] if hosts else hosts


def _path_refusal(scope: Scope) -> Problem | None:
    # No name has a slash. Decoded before it is routed, the path would be that of another resource.
    if b"%2f" in (scope.get("raw_path") or b"").lower():
        return Problem(
            HTTPStatus.NOT_FOUND, f"There is no {scope['method']} {scope['path']}: no name contains a slash."
        )
    # `$` in the pattern of a route matches before a newline.
    if _CONTROL.search(scope["path"]):
        return Problem(HTTPStatus.NOT_FOUND, "There is no such path: no name contains a control character.")
    return None


def _coding_refusal(headers: Headers) -> Problem | None:
    given = ", ".join(headers.getlist("content-encoding"))
    if all(coding.strip().lower() in ("", "identity") for coding in given.split(",")):
        return None
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"header.content-encoding = {given[:80]!r}: a request body must not be encoded.",
        headers={"Accept-Encoding": "identity"},
    )
