"""The web page: the static files of `page/`, served without authentication. The page reads the API with a token."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.control_plane.http.entity_tags import entity_tags
from services.control_plane.http.problems import Problem

FOLDER = Path(__file__).parents[1] / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"

router = APIRouter(include_in_schema=False)


class _File(NamedTuple):
    """One file, ready to send."""

    content: bytes
    media_type: str
    tag: str
    """what stands between the quotes of its ETag"""


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:24])


# Only files that were in the folder at start-up are served, so no name leads out of it.
_FILES = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}


@router.get("/")
def index(request: Request) -> Response:
    """The page."""
    return _answer(request, _FILES[_INDEX])


@router.get("/page/{name}")
def file(name: str, request: Request) -> Response:
    """A file of the page."""
    if name not in _FILES or name == _INDEX:
        raise Problem(HTTPStatus.NOT_FOUND, f"The page has no file {name[:80]!r}.")
    return _answer(request, _FILES[name])


def _answer(request: Request, found: _File) -> Response:
    headers = {"ETag": f'"{found.tag}"', "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    known = request.headers.getlist("if-none-match")
    if known == ["*"] or found.tag in [tag.opaque for tag in entity_tags(known) or []]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)
