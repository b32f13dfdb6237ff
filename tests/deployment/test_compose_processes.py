"""Services of the Compose file as processes on this machine, started with their own command lines.

They are the queue, the control plane, the token for Prometheus, and Prometheus itself, which must see every series
that its rules and the dashboard query.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.redis.access import PASSWORD_VARIABLE, RedisAccess
from services.run.heartbeats import beat
from services.run.state import RunSpec, update_status
from tests.deployment.alerts import ALERTS, expressions, selectors
from tests.deployment.installation import SERVICES
from tests.deployment.queue_server import PASSWORD, Server
from tests.deployment.rendered import ROOT
from tests.support.ports import free_ports
from tests.support.runs.registered_run import register_run
from tests.support.step_records import record
from trainer.config import RunConfig

TOKEN = "scope_" + "7" * 64
PATIENCE_SECONDS = 60.0


class Composed:
    """The processes, with host names and container paths replaced by those of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, []
        binaries = folder / "programs"
        binaries.mkdir()
        (binaries / "scope").write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
        (binaries / "scope").chmod(0o755)
        queue = folder / "queue"
        queue.mkdir()
        self.redis = Server(SERVICES["redis"]["command"][2].replace("$$", "$"), queue, {})
        self.control_plane, self.prometheus = free_ports(2)
        self._places = {
            "redis:6379": f"127.0.0.1:{self.redis.port}",
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=8080": f"--port={self.control_plane}",
            "control-plane:8080": f"127.0.0.1:{self.control_plane}",
            "/run/scope": str(folder),
            "/etc/prometheus": str(folder),
            "=/prometheus": f"={folder}/series",
            "scrape_interval: 15s": "scrape_interval: 1s",
        }
        self.environment = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SCOPE_TOKEN": TOKEN,
            PASSWORD_VARIABLE: PASSWORD,
        }

    def here(self, text: str) -> str:
        """A text of the Compose file, or of a file it mounts, adapted to this machine."""
        for there, place in self._places.items():
            text = text.replace(there, place)
        return text

    def start(self, name: str, *words: str) -> None:
        """Start a service with its own command."""
        command = [*words, *(self.here(word) for word in SERVICES[name]["command"])]
        output = (self._folder / f"{name}.log").open("wb")
        self._processes.append(
            subprocess.Popen(command, env=self.environment, stdout=output, stderr=subprocess.STDOUT)
        )

    def until(self, url: str) -> None:
        """Wait until an address responds with 200."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if httpx.get(url, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert all(process.poll() is None for process in self._processes), self.logs()
            assert time.monotonic() < deadline, f"{url} does not respond: {self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """The output of the services."""
        return "\n".join(path.read_text() for path in self._folder.glob("*.log"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of a Prometheus query."""
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/query"
        answer = httpx.get(url, params={"query": query}).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]["result"]

    def stop(self) -> None:
        """Stop all services."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)
        self.redis.stop()


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Composed]:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: .ci/run installs Debian's")
    services = Composed(tmp_path)
    try:
        yield services
    finally:
        services.stop()


def put_run(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an active run with a complete step record."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    config = RunConfig().model_dump(mode="json")
    spec = RunSpec(run_id="composed", config=config, config_hash="0", started_at=0, versions={})
    full: dict[str, Any] = msgspec.to_builtins(record(2), str_keys=True)
    full |= {name: 0.5 for name, value in full.items() if value is None}
    with RedisAccess(f"redis://127.0.0.1:{port}/0").sync() as client:
        register_run(client, "composed", spec)
        update_status(client, "composed", phase="running", step=3, record=full)
        beat(client, "composed", "base-generator-0", {"role": "base", "state": "sampling", "step": 2})


@pytest.mark.slow
def test_prometheus_sees_every_series_with_the_token_that_was_made_for_it(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_run(composed.redis.port, monkeypatch)
    composed.start("control-plane")
    composed.until(f"http://127.0.0.1:{composed.control_plane}/healthz")
    made = subprocess.run(
        [composed.here(word) for word in SERVICES["metrics-token"]["command"]],
        env=composed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    token = (tmp_path / "token").read_text().strip()
    assert token.startswith("scope_")
    assert token != TOKEN

    shutil.copy(ROOT / "deploy" / "monitoring" / "rules.yaml", tmp_path)
    settings = (ROOT / "deploy" / "monitoring" / "compose" / "prometheus.yaml").read_text()
    (tmp_path / "prometheus.yaml").write_text(composed.here(settings))
    composed.start("prometheus", "prometheus", f"--web.listen-address=127.0.0.1:{composed.prometheus}")
    composed.until(f"http://127.0.0.1:{composed.prometheus}/-/ready")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not composed.ask('up{job="control-plane"} == 1'):
        assert time.monotonic() < deadline, composed.logs()
        time.sleep(0.5)
    for name in sorted({name for expression in expressions() for name, _ in selectors(expression)}):
        assert composed.ask(name), f"Prometheus has no {name}"
    for expression in expressions():
        if not expression.startswith("label_values"):  # a Grafana function
            composed.ask(expression.replace("$run", ".*"))
    rules = httpx.get(f"http://127.0.0.1:{composed.prometheus}/api/v1/rules").json()["data"]["groups"]
    loaded = {rule["name"] for group in rules for rule in group["rules"] if rule["type"] == "alerting"}
    assert loaded == set(ALERTS)
