"""A verifier behind HTTP, as a team would run one: on loopback, in a thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FLAKY, BROKEN, SLOW, ODD = "flaky", "broken", "slow", "odd"
"""Responses that are answered with a fault once, with a fault always, too late, and with no number."""


class RewardService:
    """What was asked of it, and where it is. secret: the authorization that it wants, if it wants one."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.seen: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.url = ""

    def status(self, body: dict[str, Any], authorization: str | None) -> int:
        """Of the answer to a request."""
        self.times.append(time.monotonic())
        self.seen.append(body)
        if self.secret is not None and authorization != self.secret:
            return 401
        before = sum(one["response"] == body["response"] for one in self.seen)
        return 503 if body["response"] == BROKEN or (body["response"] == FLAKY and before == 1) else 200


@contextmanager
def reward_service(secret: str | None = None) -> Iterator[RewardService]:
    """Rewards the share of the answer among the first four characters of a response."""
    service = RewardService(secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = service.status(body, self.headers["authorization"])
            if body["response"] == SLOW:
                time.sleep(1.0)
            reward: Any = body["response"][:4].count(body["answer"]) / 4
            answer = {"reward": "?" if body["response"] == ODD else reward, "components": {"style": 0.5}}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                """The client did not wait."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}/verify"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
