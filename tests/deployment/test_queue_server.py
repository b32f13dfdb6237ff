"""The queue's server, started with the command lines of Compose and Kubernetes, is durable and protected."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError

from services.entropy_target.store import read_entropy_target
from services.redis.access import PASSWORD_VARIABLE, RedisAccess, check
from services.run.heartbeats import generators
from services.run.state import RunSpec, run_ids
from tests.deployment.installation import SERVICES
from tests.deployment.queue_server import PASSWORD, Server
from tests.deployment.rendered import K8S, find, installation
from tests.support.runs.registered_run import register_run
from trainer.config import RunConfig


def kubernetes(folder: Path, program: Path | None = None, **environment: str) -> Server:
    container = find(installation("gpu-multi-node"), "StatefulSet", "redis")["spec"]["template"]["spec"][
        "containers"
    ][0]
    given = {variable["name"]: variable.get("value", PASSWORD) for variable in container["env"]}
    return Server(container["command"][2], folder, given | environment, program)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = kubernetes(tmp_path)
    yield started
    started.stop()


def test_server_of_compose_is_durable_and_refuses_strangers(tmp_path: Path) -> None:
    script = SERVICES["redis"]["command"][2].replace("$$", "$")
    server = Server(script, tmp_path, {})
    with pytest.raises(AuthenticationError):
        server.client().ping()
    settings: Any = server.client(password=PASSWORD).config_get("appendonly", "maxmemory-policy", "maxmemory")
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert int(settings["maxmemory"]) >= RunConfig().pipeline.unacked_bytes
    assert PASSWORD.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert server.stop() == 0, "the server itself must receive the signal, not a shell around it"


def test_server_of_kubernetes_is_durable_and_ends_in_order(tmp_path: Path) -> None:
    server = kubernetes(tmp_path)
    found: Any = server.client(username="scope", password=PASSWORD).info()
    assert found["aof_enabled"] == 1
    assert found["maxmemory_policy"] == "noeviction"
    assert PASSWORD.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert server.stop() == 0


def test_server_of_kubernetes_lets_in_its_one_user_only(server: Server) -> None:
    for options in ({}, {"password": PASSWORD}, {"username": "scope", "password": "guessed"}):
        with pytest.raises((AuthenticationError, redis.ResponseError)):
            server.client(**options).ping()


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "dir"),
        ("FLUSHALL",),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("SET", "other:key", "1"),
        ("GET", "other:key"),
        ("KEYS", "*"),
        ("REPLICAOF", "NO", "ONE"),
        ("MONITOR",),
    ],
)
def test_user_of_the_service_administers_nothing(server: Server, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        server.client(username="scope", password=PASSWORD).execute_command(*command)


def test_user_of_the_service_may_do_what_a_run_does(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    access = RedisAccess(f"redis://scope@127.0.0.1:{server.port}/0")
    assert check(access) == []
    run = f"run-{uuid.uuid4().hex[:8]}"
    config = RunConfig().model_dump(mode="json")
    with access.sync() as client:
        register_run(
            client, run, RunSpec(run_id=run, config=config, config_hash="0", started_at=0, versions={})
        )
        assert run_ids(client) == [run]
        assert generators(client, run) == {}
        assert read_entropy_target(client, run) is not None


def certificates(folder: Path) -> None:
    """A certificate authority, and a certificate of it for localhost."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run([*new, *files], check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")


def test_server_of_the_tls_component_speaks_tls_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("the packaged server has no TLS, and .ci/run could not install Debian's redis-server")
    component = yaml.safe_load(
        (K8S / "components" / "redis-tls" / "platform" / "kustomization.yaml").read_text()
    )
    patch = yaml.safe_load(component["patches"][0]["patch"])["spec"]["template"]["spec"]["containers"][0]
    options = next(variable["value"] for variable in patch["env"] if variable["name"] == "EXTRA_OPTIONS")
    certificates(tmp_path)
    server = kubernetes(tmp_path, Path(program), EXTRA_OPTIONS=options.replace("/tls/", f"{tmp_path}/"))
    try:
        monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
        address = f"scope@localhost:{server.port}/0"
        assert check(RedisAccess(f"rediss://{address}?ssl_ca_certs={tmp_path}/ca.crt")) == []
        with pytest.raises(Exception, match="cannot be used"):
            check(RedisAccess(f"redis://{address}", connect_timeout_seconds=2))
        with pytest.raises(Exception, match="cannot be used"):
            check(RedisAccess(f"rediss://{address}", connect_timeout_seconds=2))
    finally:
        server.stop()
