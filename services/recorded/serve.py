"""Serves recorded runs on this machine: the ordinary control plane over a temporary Redis, without changes."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from services.access.tokens import Scope, create_token
from services.control_plane.app import create_app
from services.control_plane.http.read_only import ReadOnly
from services.control_plane.server import ServerThread
from services.host.sockets import bind
from services.recorded.fill import redis_of
from services.recorded.recorded_run import RecordedRun
from trainer.config import ControlPlaneConfig
from trainer.errors import ScopeError

HOST = "127.0.0.1"
"""A view has no settings for other machines: `ssh -L` forwards its port."""
LARGEST_PORT = 65535
LIMITS = ControlPlaneConfig(reads_per_minute=100_000)
"""One person's page reads several runs at once."""


class View(NamedTuple):
    """A control plane that shows recorded runs."""

    url: str
    token: str
    """valid on every run as long as it serves"""


@contextmanager
def served(runs: Sequence[RecordedRun], scope: Scope, port: int = 0) -> Iterator[View]:
    """Serve the runs on the loopback interface until the context ends. port: 0 for a free one.

    Raises ScopeError when the port is taken, and when a run does not fit into Redis.
    """
    with _listener(port) as listener, redis_of(runs) as access:
        with access.sync() as redis:
            token = create_token(redis, None, "view", scope)
        app = create_app(access, LIMITS)
        app.add_middleware(ReadOnly)
        server = ServerThread(app, listener)
        try:
            yield View(f"http://{HOST}:{listener.getsockname()[1]}", token)
        finally:
            # The event streams of open pages are broken off; their ends are of no interest to the terminal.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            server.stop(at_once=True)


def _listener(port: int) -> socket.socket:
    with contextlib.suppress(ScopeError, PermissionError):
        # Beyond the range, the operating system would take the remainder.
        if 0 <= port <= LARGEST_PORT:
            return bind(HOST, port)
    raise ScopeError(
        f"--port {port} cannot be used on {HOST}: it is taken, or not allowed. Choose a free one from 1024 to "
        f"{LARGEST_PORT}, or leave it out."
    )
