"""One connection of a client: uvicorn's HTTP protocol with limits on size and time, and problem bodies for refusals.

The parser is h11, named here so that an installation with httptools behaves the same: httptools joins the pieces of a
header field as they arrive, at a cost that grows with the square of its length, and without a limit.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

import h11
import uvicorn
from starlette.datastructures import MutableHeaders
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from services.control_plane.connections.message_limits import LimitedConnection
from services.control_plane.connections.open_connections import OpenConnections, network_of
from services.control_plane.connections.turns import ON_VALID_TOKEN, Turns
from services.control_plane.http.problems import problem_response
from services.control_plane.http.security_headers import add_security_headers
from trainer.config import ControlPlaneConfig

LINGER_SECONDS = 1.0
"""how long a refused client may take to read the answer before the connection is reset"""
STALL_SECONDS = 30.0
"""how long a client may leave its answer unread"""
_DISCARDED_BYTES = 1 << 20
"""what is read from a refused client, so that it gets to read the answer"""

Waiting = Literal["header", "body", "idle"]


class LimitedConfig(uvicorn.Config):
    """The configuration of a server whose connections share limits."""

    def __init__(self, app: Any, limits: ControlPlaneConfig, **options: Any) -> None:
        super().__init__(
            app, http=LimitedProtocol, ws="none", timeout_keep_alive=limits.idle_timeout_seconds, **options
        )
        self.limits = limits
        self.open_connections = OpenConnections(limits.connections, limits.connections_per_address)
        self.turns = Turns()


class LimitedProtocol(H11Protocol):
    """One connection. It ends when its client is silent, slow, or does not read."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        assert isinstance(config, LimitedConfig)
        super().__init__(config, server_state, app_state, _loop)
        self.conn: LimitedConnection = LimitedConnection()
        self._limits, self._open, self._turns = config.limits, config.open_connections, config.turns
        self._routes, self.app = self.app, self._in_turn
        self._network = ""
        self._waiting: Waiting | None = None
        self._since = time.monotonic()
        self._answered = self._proven = self._leaving = False
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._reset: asyncio.TimerHandle | None = None

    @property
    def waits_since(self) -> tuple[bool, float] | None:
        """Whether a valid token was shown here, and since when a request is awaited; None while one is answered."""
        return (self._proven, self._since) if self._waiting or self._leaving else None

    def evict(self) -> None:
        """Make room for another connection."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Called by the event loop for a new connection."""
        super().connection_made(transport)
        self._network = network_of(self.client[0] if self.client else "")
        if self._open.enter(self, self._network):
            self._observe()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many requests are in progress on this replica, or from this address. Try again later.",
                {"Retry-After": "5"},
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when the connection has ended."""
        for timer in (self._deadline, self._reset):
            if timer is not None:
                timer.cancel()
        self._open.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what the client sent."""
        if self._leaving:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self.transport.pause_reading()
            return
        super().data_received(data)
        self._observe()

    def on_response_complete(self) -> None:
        """Called when the answer to a request is written."""
        self._answered = True
        super().on_response_complete()
        if self.transport.is_closing():
            self._reset_after(STALL_SECONDS)
        self._observe()

    def pause_writing(self) -> None:
        """Called by the event loop when the client reads more slowly than the server writes."""
        super().pause_writing()
        self._reset_after(STALL_SECONDS)

    def resume_writing(self) -> None:
        """Called by the event loop when the client has caught up."""
        super().resume_writing()
        if self._reset is not None and not self._leaving:
            self._reset.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """Called when no request has followed the last one in time."""
        super().timeout_keep_alive_handler()
        self._reset_after(STALL_SECONDS)

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        if self._leaving:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is not a request, or one beyond the limits."""
        refusal = self.conn.refusal
        detail = str(refusal) if refusal else msg
        self._refuse(refusal.error_status_hint if refusal else HTTPStatus.BAD_REQUEST, detail)

    def _should_upgrade(self) -> bool:
        # There are no WebSockets here; the request is answered as if it had not asked for another protocol.
        return False

    async def _in_turn(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, for which requests of clients without a valid token wait for their turn."""
        if self._proven:
            await self._routes(scope, receive, send)
            return
        cycle, turn = self.cycle, self._turns.turn(self._network)

        def proven() -> None:
            self._proven = True
            turn.end()

        scope["state"][ON_VALID_TOKEN] = partial(self.loop.call_soon_threadsafe, proven)
        await turn.begin()
        try:
            if not cycle.disconnected:
                await self._routes(scope, turn.receiving(receive), turn.sending(send))
        finally:
            turn.end()

    def _observe(self) -> None:
        """Note what the client is to send next, and by when."""
        waiting = self._awaited()
        if waiting == self._waiting:
            return
        self._waiting, self._since = waiting, time.monotonic()
        if self._deadline is not None:
            self._deadline.cancel()
        # uvicorn itself closes an idle connection.
        if waiting == "header":
            seconds = self._limits.header_timeout_seconds
        elif waiting == "body":
            seconds = self._limits.body_timeout_seconds
        else:
            return
        self._deadline = self.loop.call_later(seconds, self._too_slow, waiting, seconds)

    def _awaited(self) -> Waiting | None:
        if self._leaving or self.transport.is_closing():
            return None
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        if self.conn.their_state is not h11.IDLE:
            return None
        return "idle" if self._answered and not self.conn.receiving else "header"

    def _too_slow(self, part: Waiting, seconds: float) -> None:
        self._refuse(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The {part} of the request did not arrive within {seconds:g} seconds.",
        )

    def _refuse(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer with a problem body, unless an answer has begun, and end the connection."""
        if self._leaving or self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(self._problem(status, detail, headers))
        self._leaving = True
        self._observe()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # The client may still be sending. Closing at once would reset the connection before it reads the answer.
        self.transport.write_eof()
        self._reset_after(LINGER_SECONDS)

    def _problem(self, status: int, detail: str, headers: dict[str, str] | None) -> bytes:
        reading = self.conn.their_state is not h11.IDLE and self.scope is not None
        response = problem_response(status, detail, self.scope["path"] if reading else "/", headers=headers)
        fields = MutableHeaders(raw=[*self.server_state.default_headers, *response.raw_headers])
        fields["Connection"] = "close"
        add_security_headers(fields)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in fields.raw]
        return b"\r\n".join([*lines, b"", bytes(response.body)])

    def _reset_after(self, seconds: float) -> None:
        if self._reset is not None:
            self._reset.cancel()
        self._reset = self.loop.call_later(seconds, self.transport.abort)
