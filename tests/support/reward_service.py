"""An HTTP verifier like one that a team would run, on the loopback interface and in a thread."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FLAKY, BROKEN, SLOW, ODD = "flaky", "broken", "slow", "odd"
"""Responses that cause one fault, a fault every time, a late answer, and an answer without a number."""


class RewardService:
    """The address of the service and the requests it received. secret: the required authorization, if any."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.seen: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.url = ""
        self.answer: bytes | None = None
        """what it answers to everything, if that is set"""
        self.pause = 0.0
        """seconds between the bytes of an answer"""

    def status(self, body: dict[str, Any], authorization: str | None) -> int:
        """HTTP status of the response to a request."""
        self.times.append(time.monotonic())
        self.seen.append(body)
        if self.secret is not None and authorization != self.secret:
            return 401
        before = sum(one["response"] == body["response"] for one in self.seen)
        return 503 if body["response"] == BROKEN or (body["response"] == FLAKY and before == 1) else 200


@contextmanager
def reward_service(secret: str | None = None) -> Iterator[RewardService]:
    """A service whose reward is the number of times the answer occurs in a response's first four characters, over 4."""
    service = RewardService(secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = service.status(body, self.headers["authorization"])
            if body["response"] == SLOW:
                time.sleep(1.0)
            reward: Any = body["response"][:4].count(body["answer"]) / 4
            answer = {"reward": "?" if body["response"] == ODD else reward, "components": {"style": 0.5}}
            text = json.dumps(answer).encode() if service.answer is None else service.answer
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            for start in range(0, len(text), 1 if service.pause else len(text) or 1):
                time.sleep(service.pause)
                self.wfile.write(text[start : start + 1] if service.pause else text)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                """The client closed the connection."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}/verify"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
