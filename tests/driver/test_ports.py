"""Who can reach the ports of a whole run, and what they answer without a token."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import grpc
import httpx
import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.chaos.processes import descendants
from tests.chaos.subject import Subject
from tests.support.network_namespace import stranger
from tests.support.repository import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WRONG_TOKEN = (("authorization", "Bearer " + "0" * 64),)
SECURITY = ROOT / "docs" / "explanation" / "security.md"


def listening(live: Subject) -> dict[int, tuple[str, str]]:
    """Port -> (address, process) of every TCP port that a process of the run listens on."""
    found = {}
    for pid in [live.driver.pid, *descendants(live.driver.pid)]:
        try:
            process = psutil.Process(pid)
            for link in process.net_connections("tcp"):
                if link.status == psutil.CONN_LISTEN:
                    found[link.laddr.port] = link.laddr.ip, process.name()
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def ports(live: Subject) -> dict[int, tuple[str, str]]:
    return listening(live)


def test_every_port_of_a_run_listens_on_loopback(ports: dict[int, tuple[str, str]]) -> None:
    assert len(ports) > 20
    addresses = {address for address, _ in ports.values()}
    open_ones = {port: where for port, where in ports.items() if where[0] not in LOOPBACK}
    assert not open_ones, f"beside {addresses & LOOPBACK}"


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_stranger_in_another_network_namespace_reaches_no_port(ports: dict[int, tuple[str, str]]) -> None:
    with stranger() as other, socket.create_server(("", 0)) as door:
        open_port = door.getsockname()[1]
        assert other.reached([open_port]) == {open_port}, "the stranger has no way to this machine"
        assert other.reached(ports) == set()


def test_every_process_with_a_port_is_in_the_documentation(ports: dict[int, tuple[str, str]]) -> None:
    table = set(re.findall(r"^\| `([^`]+)`", SECURITY.read_text(), re.MULTILINE))
    processes = {kind(name) for _, name in ports.values()}
    assert processes <= table


def kind(process: str) -> str:
    """A process's name, as the documentation has it: an actor's class without its method."""
    return re.sub(r"^(ray::\w+).*", r"\1", process)


def test_ray_refuses_calls_without_its_token_and_with_a_wrong_one(ports: dict[int, tuple[str, str]]) -> None:
    calls = {
        "gcs_server": "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
        "raylet": "/ray.rpc.NodeManagerService/GetNodeStats",
        "ray::RayTrainWorker": "/ray.rpc.CoreWorkerService/PushTask",
        "ray::Generator": "/ray.rpc.CoreWorkerService/PushTask",
        "ray::ServeReplica": "/ray.rpc.CoreWorkerService/PushTask",
        "ray::DashboardAgent": "/ray.rpc.ReporterService/GetTraceback",
    }
    tried = dict.fromkeys(calls, 0)
    for port, (_, name) in ports.items():
        if (process := kind(name)) not in calls:
            continue
        for metadata in ((), WRONG_TOKEN):
            answer = grpc_status(port, calls[process], metadata)
            if answer == grpc.StatusCode.UNAVAILABLE:  # this port of the process does not speak gRPC
                continue
            assert answer == grpc.StatusCode.UNAUTHENTICATED, (process, port, metadata)
            tried[process] += 1
    assert all(count >= 2 for count in tried.values()), tried


def grpc_status(port: int, method: str, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """How a call with an empty body ends."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()  # pyright: ignore[reportAttributeAccessIssue]
    return grpc.StatusCode.OK


def answers(ports: dict[int, tuple[str, str]], path: str) -> Iterator[tuple[str, httpx.Response]]:
    """(process, response) of every port that speaks HTTP."""
    for port, (_, name) in ports.items():
        try:
            yield kind(name), httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
        except httpx.TransportError:
            continue


def test_http_ports_serve_nothing_but_metrics_without_a_token(ports: dict[int, tuple[str, str]]) -> None:
    paths = ("/api/v0/actors", "/api/jobs/", "/v1/runs", "/get_or_create_runtime_env", "/metrics")
    open_ones = {
        (process, path)
        for path in paths
        for process, answer in answers(ports, path)
        if answer.status_code not in (401, 403, 404, 405)
    }
    served = {process for process, path in open_ones if path == "/metrics"}
    assert served <= {"ray::DashboardAgent", "ray-dashboard", "python"}, "only Ray's own metrics"
    # A metrics port answers every path with the metrics.
    assert {process for process, _ in open_ones} == served


def test_the_embedded_redis_wants_its_password(live: Subject) -> None:
    with Redis(port=live.redis_port) as client, pytest.raises(AuthenticationError):
        client.ping()
