"""The uvicorn server of the control plane, in the main thread (`standalone`) or in its own thread (`ray_serve`)."""

from __future__ import annotations

import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

GRACE_SECONDS = 5
"""seconds that requests in progress have to finish when the server stops"""
START_SECONDS = 60.0


def server_of(app: FastAPI) -> uvicorn.Server:
    """A server, not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            # The audit records the address of the connection, not one that the sender claims.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


class ServerThread:
    """Serves on a bound socket until `stop`. Raises `RuntimeError` when it does not start."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        self._server = server_of(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the control plane's HTTP server did not start")
            time.sleep(0.01)

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def stop(self, *, at_once: bool = False) -> None:
        """Finish the requests in progress, or break them off with `at_once`; then close the socket."""
        self._server.force_exit = at_once
        self._server.should_exit = True
        self._thread.join(2 * GRACE_SECONDS)
