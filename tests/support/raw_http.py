"""Requests byte by byte, which no HTTP client would send, and a control plane with limits that tests reach quickly."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from services.control_plane.app import create_app
from services.control_plane.http.security_headers import ALWAYS, UNLESS_SET
from services.control_plane.server import ServerThread
from services.redis.access import RedisAccess
from trainer.config import ControlPlaneConfig

PATIENCE_SECONDS = 20.0
"""longest wait for anything that a server does at once, on a busy machine"""
Address = tuple[str, int]


class RawAnswer(NamedTuple):
    """What a server sent until it closed the connection or its answer was complete."""

    status: int
    headers: dict[str, str]
    """by lower-case name"""
    body: bytes

    def problem(self) -> dict:
        """The problem body; fails where it is none, or where security headers are missing."""
        assert self.headers["content-type"] == "application/problem+json", self
        for name in (*ALWAYS, *UNLESS_SET):
            assert name.lower() in self.headers, name
        body = json.loads(self.body)
        assert body["status"] == self.status
        assert body["detail"]
        return body


@contextlib.contextmanager
def serving(access: RedisAccess, limits: ControlPlaneConfig) -> Iterator[Address]:
    """A control plane over real sockets."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ServerThread(create_app(access, limits), listener)
    try:
        yield listener.getsockname()
    finally:
        server.stop()


def connected(address: Address, source: str | None = None) -> socket.socket:
    """A connection, from an address of its own if `source` is given."""
    origin = None if source is None else (source, 0)
    return socket.create_connection(address, PATIENCE_SECONDS, origin)


def request(method: str, target: str, *fields: str, body: bytes = b"") -> bytes:
    """A request with a Host field unless `fields` has one."""
    host = [] if any(field.lower().startswith("host:") for field in fields) else ["Host: localhost"]
    lines = [f"{method} {target} HTTP/1.1", *host, *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answer(connection: socket.socket, *, head_only: bool = False) -> RawAnswer:
    """The next answer on the connection. head_only: for HEAD, whose answer has a length and no body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection, received)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if head_only else int(headers.get("content-length", "0"))
    while len(body) < length:
        body += _more(connection, body)
    return RawAnswer(int(first.split()[1]), headers, body)


def _more(connection: socket.socket, so_far: bytes) -> bytes:
    piece = connection.recv(65536)
    assert piece, f"closed after {so_far[:200]!r}"
    return piece


def asked(address: Address, sent: bytes, *, head_only: bool = False) -> RawAnswer:
    """The answer to `sent` on a connection of its own."""
    with connected(address) as connection:
        connection.sendall(sent)
        return answer(connection, head_only=head_only)


def closed_within(connection: socket.socket, seconds: float) -> float:
    """Wait until the server has closed the connection; returns the seconds that it took."""
    began = time.monotonic()
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return time.monotonic() - began
