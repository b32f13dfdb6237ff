"""The control plane is killed with SIGKILL during writes: every acknowledged change persists, exactly once."""

import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from services.access.tokens import create_token
from services.entropy_target.store import history_read
from services.redis.query import fetch
from tests.support.control_plane import start_run

_SERVER = """
import sys
from services.control_plane.standalone import run_standalone
from services.redis.access import RedisAccess
from trainer.config import ControlPlaneConfig
config = ControlPlaneConfig(port=int(sys.argv[3]), writes_per_minute=10**6, reads_per_minute=10**6)
run_standalone(RedisAccess(sys.argv[1], sys.argv[2]), config)
"""
KILLS = 4
WRITERS = 3
SEED = 7
PAUSE_SECONDS = 0.02


@dataclass
class Writer:
    """Sends changes one at a time, repeats each until it is answered, and records the responses."""

    url: str
    token: str
    first: int
    stop: threading.Event
    attempted: list[float] = field(default_factory=list)
    acknowledged: dict[int, float] = field(default_factory=dict)
    """generation → target"""
    repeated: int = 0

    def run(self) -> None:
        """Send changes until told to stop."""
        number = self.first
        with httpx.Client(timeout=5) as client:
            while not self.stop.wait(PAUSE_SECONDS):
                number += WRITERS
                target = round(0.3 + number * 1e-5, 6)
                self.attempted.append(target)
                self._send(client, target, secrets.token_hex(8))

    def _send(self, client: httpx.Client, target: float, key: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "If-Match": "*", "Idempotency-Key": key}
        while True:
            try:
                answer = client.put(self.url, headers=headers, json={"target": target})
            except httpx.HTTPError:
                self.repeated += 1
                time.sleep(0.05)
                continue
            if answer.status_code == 409:
                time.sleep(0.05)
                continue
            assert answer.status_code == 202, answer.text
            body = answer.json()
            assert body["spec"]["target"] == target
            generation = body["metadata"]["generation"]
            assert generation not in self.acknowledged
            assert answer.headers["etag"] == f'"{generation}"'
            self.acknowledged[generation] = target
            return


@contextmanager
def served(redis_access, port: int) -> Iterator[subprocess.Popen]:
    """A control plane that responds."""
    arguments = [redis_access.url, redis_access.password_file, str(port)]
    server = subprocess.Popen([sys.executable, "-c", _SERVER, *arguments])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the control plane did not start"
                time.sleep(0.1)
        yield server
    finally:
        server.kill()
        server.wait()


def test_no_acknowledged_change_is_lost_and_none_is_made_twice(redis_access, redis, run_id, unused_port):
    start_run(redis, run_id)
    token = create_token(redis, run_id, "ada", "operator")
    url = f"http://127.0.0.1:{unused_port}/v1/runs/{run_id}/entropy-target"
    stop = threading.Event()
    writers = [Writer(url, token, first, stop) for first in range(WRITERS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    chance = random.Random(SEED)
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        with served(redis_access, unused_port):
            time.sleep(chance.uniform(0.3, 1.5))
    with served(redis_access, unused_port):
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    events = fetch(redis, history_read(run_id, 1000))
    changes = [event for event in reversed(events) if event.event == "changed"][1:]
    assert [event.generation for event in changes] == list(range(2, len(changes) + 2))
    made = {event.generation: event.target for event in changes}
    assert len(set(made.values())) == len(made), "a change was made twice"
    acknowledged = {g: target for writer in writers for g, target in writer.acknowledged.items()}
    assert len(acknowledged) == sum(len(writer.acknowledged) for writer in writers)
    assert acknowledged == made
    assert sorted(acknowledged.values()) == sorted(target for w in writers for target in w.attempted)
    assert sum(writer.repeated for writer in writers) >= KILLS
