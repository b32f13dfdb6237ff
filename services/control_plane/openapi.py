"""The OpenAPI document, at `/openapi.json`: every 4XX and 5XX answer is a problem body (RFC 9457)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from services.control_plane.http.problems import described

_PROBLEM = described("Problem details (RFC 9457).")


def install(app: FastAPI) -> None:
    """Serve the document to anyone. It is encoded once, since a client without a token may ask for it at any rate."""
    app.openapi = lambda: describe(app)

    @cache
    def encoded() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False).encode()

    async def document(_: Request) -> Response:
        return Response(encoded(), media_type="application/json")

    app.add_route("/openapi.json", document, include_in_schema=False)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, built on the first call. Omits FastAPI's own 422 body, which is never sent."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for operation in (o for operations in document["paths"].values() for o in operations.values()):
            answers = operation["responses"]
            answers.pop("422", None)
            answers |= {"4XX": _PROBLEM, "5XX": _PROBLEM}
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
