"""The control plane under uvicorn and under Ray Serve, called by its client."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from redis import Redis

from services.access.tokens import create_token
from services.control_plane.client import ControlPlaneClient, ControlPlaneError
from services.control_plane.connections.message_limits import HEAD_BYTES
from services.control_plane.standalone import run_standalone
from services.entropy_target.store import mark_applied
from services.redis.access import RedisAccess
from services.redis.embedded import EmbeddedRedis
from services.run.control import desired
from services.run.state import RunSpec
from tests.support.raw_http import asked, request
from tests.support.runs.registered_run import register_run
from trainer.config import ControlPlaneConfig, RedisConfig, RunConfig
from trainer.config.load import config_hash
from trainer.errors import ScopeError

_SERVER = """
import sys
from services.control_plane.standalone import run_standalone
from services.redis.access import RedisAccess
from trainer.config import ControlPlaneConfig
config = ControlPlaneConfig(port=int(sys.argv[3]))
run_standalone(RedisAccess(sys.argv[1], sys.argv[2]), config, sys.argv[4])
"""


@pytest.fixture
def operator(redis: Redis, run_id: str) -> str:
    """A token for a run that has just started."""
    config = RunConfig()
    spec = RunSpec(
        run_id=run_id,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        started_at=1000.0,
        versions={},
    )
    register_run(redis, run_id, spec)
    return create_token(redis, run_id, "ada", "operator")


def assert_limited(port: int) -> None:
    """Check that the server has the limits of `tests/control_plane/test_connections.py`."""
    found = asked(("127.0.0.1", port), request("GET", "/healthz", f"X: {'a' * HEAD_BYTES}"))
    assert found.status == 431
    found.problem()


def drive(url: str, token: str, redis: Redis, run_id: str) -> None:
    """Set, read and reset an entropy target through the client."""
    with ControlPlaneClient(url, token) as client:
        assert [run.id for run in client.runs()] == [run_id]
        assert client.run(run_id).status.phase == "starting"
        assert client.entropy_target(run_id).status.state == "pending"
        assert client.set_entropy_target(run_id, 0.35).metadata.generation == 2
        mark_applied(redis, run_id, generation=2, step=4, epoch=0)
        shown = client.entropy_target(run_id)
        assert (shown.spec.target, shown.status.state, shown.status.applied_from_step) == (0.35, "applied", 4)
        waited = client.set_entropy_target(run_id, 0.3, wait=True, timeout=0.2)
        assert waited.status.state == "pending"
        returned = client.reset_entropy_target(run_id, wait=True, timeout=0.2)
        assert (returned.spec.target, returned.metadata.source) == (None, "configuration")
        assert (returned.status.state, returned.metadata.generation) == ("pending", 4)
        with pytest.raises(
            ControlPlaneError, match=r"7\.0 is not allowed: it must lie in \[0\.01, 5\]"
        ) as range_:
            client.set_entropy_target(run_id, 7.0)
        assert range_.value.status == 422
        with pytest.raises(ControlPlaneError, match="finite number"):
            client.set_entropy_target(run_id, float("nan"))
        with pytest.raises(ControlPlaneError, match="no run 'absent'"):
            client.run("absent")
        with pytest.raises(ControlPlaneError, match="There is no GET /v1/runs/a/b c"):
            client.run("a/b c")
        assert client.request_action(run_id, "stop").spec.control == "stop"
    assert desired(redis, run_id).state == "stop"
    with (
        ControlPlaneClient(url, "scope_wrong") as stranger,
        pytest.raises(ControlPlaneError, match="not valid"),
    ):
        stranger.runs()


def test_under_uvicorn_it_serves_until_it_is_interrupted(redis_access, redis, run_id, operator, unused_port):
    arguments = [redis_access.url, redis_access.password_file, str(unused_port), "a-token-of-the-service"]
    server = subprocess.Popen([sys.executable, "-c", _SERVER, *arguments])
    url = f"http://127.0.0.1:{unused_port}"
    try:
        wait_for(url, "a-token-of-the-service")
        drive(url, operator, redis, run_id)
        assert_limited(unused_port)
        with ControlPlaneClient(url, "a-token-of-the-service") as client:
            assert run_id in [run.id for run in client.runs()]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
    finally:
        server.kill()
        server.wait()
    with (
        ControlPlaneClient(url, operator) as client,
        pytest.raises(ControlPlaneError, match="does not answer"),
    ):
        client.runs()


def test_a_port_in_use_is_named(redis_access):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ScopeError, match=f"control_plane.port = {port} is taken"):
            run_standalone(redis_access, ControlPlaneConfig(port=port))


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_that_is_not_here_is_named(redis_access, operator, host, unused_port):
    with pytest.raises(ScopeError, match=r"control_plane\.host"):
        run_standalone(redis_access, ControlPlaneConfig(host=host, port=unused_port))


def test_other_machines_are_let_in_only_where_tokens_exist(tmp_path, unused_port):
    folders = {"data_dir": tmp_path / "data", "state_dir": tmp_path / "state"}
    with (
        EmbeddedRedis(RedisConfig(), **folders) as server,
        pytest.raises(ScopeError, match="there is no token yet"),
    ):
        run_standalone(server.access, ControlPlaneConfig(host="0.0.0.0", port=unused_port))


def test_something_else_that_answers_is_not_taken_for_a_control_plane(unused_port):
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(unused_port)]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.raises(ControlPlaneError, match="is not a control plane"):
            wait_for(f"http://127.0.0.1:{unused_port}", "any")
    finally:
        other.kill()
        other.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[None]:
    """A local Ray cluster of two cores."""
    from tests.support.local_ray import local_ray

    with local_ray(2, configure_logging=False):
        yield


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_under_ray_serve_it_takes_no_core(
    cluster, redis_access: RedisAccess, redis, run_id, operator, unused_port
):
    import ray

    from services.control_plane import ray_serve

    url = ray_serve.start_on_serve(redis_access, ControlPlaneConfig(), unused_port)
    try:
        assert ray.available_resources()["CPU"] == 2
        drive(url, operator, redis, run_id)
        assert_limited(unused_port)
        with pytest.raises(ScopeError, match="already runs the control plane of another run"):
            ray_serve.start_on_serve(redis_access, ControlPlaneConfig(), unused_port)
    finally:
        ray_serve.stop()
    with pytest.raises(ControlPlaneError, match="does not answer"):
        ControlPlaneClient(url, operator).runs()


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_replicas_on_ray_serve_share_the_port_and_a_killed_one_is_replaced(
    cluster, redis_access: RedisAccess, redis, run_id, operator, unused_port
):
    from services.control_plane import ray_serve

    url = ray_serve.start_on_serve(redis_access, ControlPlaneConfig(), unused_port, replicas=2)
    try:
        first = listening(unused_port)
        assert len(first) == 2
        drive(url, operator, redis, run_id)
        os.kill(min(first), signal.SIGKILL)
        # The other replica continues to serve.
        wait_for(url, operator)
        deadline = time.monotonic() + 180
        while len(listening(unused_port)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert listening(unused_port) != first
    finally:
        ray_serve.stop()


def listening(port: int) -> set[int]:
    """Processes that listen on that port of 127.0.0.1."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            connections = process.net_connections("tcp4")
            if any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in connections if c.laddr):
                found.add(process.pid)
    return found


def wait_for(url: str, token: str, seconds: float = 30.0) -> None:
    """Wait until the server responds at all; refusals raise."""
    deadline = time.monotonic() + seconds
    with ControlPlaneClient(url, token) as client:
        while True:
            try:
                client.runs()
                return
            except ControlPlaneError as error:
                if error.status is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
