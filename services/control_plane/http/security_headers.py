"""Security headers of every answer: what a browser may do with it, and that no cache stores it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), fullscreen=(), geolocation=(), microphone=(), payment=(), usb=()",
}
UNLESS_SET = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def add_security_headers(headers: MutableHeaders) -> None:
    """Add `ALWAYS`, and those of `UNLESS_SET` that are missing, to the headers of an answer."""
    headers.update(ALWAYS)
    for name, value in UNLESS_SET.items():
        headers.setdefault(name, value)


class SecurityHeaders:
    """ASGI middleware: adds `ALWAYS`, and `UNLESS_SET` to an answer that has no such header of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_security_headers(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, with_headers)


def install(app: FastAPI) -> None:
    """Add the headers to every answer of `app`, including those of its outermost error handler."""
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: SecurityHeaders(build())
