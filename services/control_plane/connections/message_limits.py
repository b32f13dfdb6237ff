"""Limits on the size of a request as it arrives: they are checked before the parser sees the bytes.

A refusal is an `h11.RemoteProtocolError` whose `error_status_hint` is the status to answer with.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import h11

REQUEST_LINE_BYTES = 8 * 1024
HEAD_BYTES = 16 * 1024
"""request line and header fields together"""
HEADER_FIELDS = 100
BODY_BYTES = 64 * 1024
"""four times what a route accepts, so that a body that is a little too long still gets the answer of its route"""
BODY_PIECES = 1024
"""chunks of a body, and reads from the socket; bounds the work that a byte of a body can cause"""
_VERSIONS = (b"1.0", b"1.1")
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class LimitedConnection(h11.Connection):
    """The server's side of one connection, for requests within the limits."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self.refusal: h11.RemoteProtocolError | None = None
        """why the last call of `next_event` raised"""
        self._pieces = self._body_bytes = 0

    @property
    def receiving(self) -> bool:
        """Whether a part of a request has arrived that is not parsed yet."""
        return bool(self.trailing_data[0])

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """As `h11.Connection.next_event`; raises RemoteProtocolError also for a request beyond the limits."""
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = error
            raise

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            _check_head(self.trailing_data[0])
            self._pieces = self._body_bytes = 0
        elif self.their_state is h11.SEND_BODY and len(self.trailing_data[0]) > BODY_BYTES + HEAD_BYTES:
            raise _too_long_body()
        event = super().next_event()
        if isinstance(event, h11.Request):
            _check_framing(event)
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._body_bytes += len(event.data)
            if self._pieces > BODY_PIECES or self._body_bytes > BODY_BYTES:
                raise _too_long_body()
        return event


def _check_head(buffer: bytes) -> None:
    """Refuse a request line or a header that is too long. buffer: what has arrived, perhaps with more after it."""
    if len(buffer) > REQUEST_LINE_BYTES and b"\n" not in buffer[:REQUEST_LINE_BYTES]:
        raise _refusal(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"A request line may have at most {REQUEST_LINE_BYTES:,} bytes.",
        )
    end = _END_OF_HEAD.search(buffer, 0, HEAD_BYTES)
    head = buffer[: end.end() if end else HEAD_BYTES]
    if end is None and len(buffer) >= HEAD_BYTES:
        raise _refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"A request line and its header fields may have at most {HEAD_BYTES:,} bytes together.",
        )
    # The request line and the empty line at the end are no fields.
    if head.count(b"\n") > HEADER_FIELDS + 2:
        raise _refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"A request may have at most {HEADER_FIELDS} header fields.",
        )


def _check_framing(request: h11.Request) -> None:
    if request.http_version not in _VERSIONS:
        raise _refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Use HTTP/1.1.")
    names = {name for name, _ in request.headers}
    # Two lengths are how one request is passed off as two: a proxy in front may believe the other one.
    if {b"content-length", b"transfer-encoding"} <= names:
        raise _refusal(
            HTTPStatus.BAD_REQUEST, "Send either Content-Length or Transfer-Encoding with a body, not both."
        )


def _too_long_body() -> h11.RemoteProtocolError:
    return _refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"A request body may have at most {BODY_BYTES:,} bytes in {BODY_PIECES:,} chunks.",
    )


def _refusal(status: HTTPStatus, detail: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(detail, error_status_hint=status)
