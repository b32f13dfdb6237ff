"""Who can reach the ports of a whole run, and what they answer without a token."""

from __future__ import annotations

import re
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import grpc
import httpx
import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.chaos.processes import command, descendants
from tests.chaos.subject import Subject
from tests.support.network_namespace import stranger
from tests.support.repository import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
WRONG_TOKEN = (("authorization", "Bearer " + "0" * 64),)
SILENCE_SECONDS = 5.0
METHODS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.serve.ASGIService/HandleRequest",
)
"""One of each of Ray's servers; each server has at least one of them."""
SECURITY = ROOT / "docs" / "explanation" / "security.md"

PROCESSES = {
    "dashboard.py": r"/dashboard/dashboard\.py ",
    "monitor.py": r"/monitor\.py ",
    "ray::DashboardAgent": r"^ray::DashboardAgent",
    "ray::RuntimeEnvAgent": r"^ray::RuntimeEnvAgent",
    "ray::ServeReplica": r"^ray::ServeReplica",
    "ray::RayTrainWorker": r"^ray::RayTrainWorker",
    "ray::*": r"^ray::",
    "gcs_server": r"/gcs_server ",
    "raylet": r"/raylet ",
    "valkey-server": r"(valkey|redis)-server ",
    "VLLM::EngineCore": r"^VLLM::EngineCore",
    "scope train": r"-m services\.cli train ",
}
"""Names in the documentation -> command lines; the first that matches counts."""


Protocol = Literal["grpc", "http", "other"]


class Port(NamedTuple):
    """A TCP port on which a process of the run listens."""

    address: str
    number: int
    process: str
    """as in the documentation; the command line of a process that is not in it"""


def name(pid: int) -> str:
    line = command(pid)
    return next((name for name, pattern in PROCESSES.items() if re.search(pattern, f"{line} ")), line)


@pytest.fixture(scope="module")
def ports(live: Subject) -> list[Port]:
    """Every port of the run."""
    found = []
    for pid in sorted({live.driver.pid, *descendants(live.driver.pid)}):
        with suppress(psutil.NoSuchProcess):
            links = psutil.Process(pid).net_connections("tcp")
            listening = [link.laddr for link in links if link.status == psutil.CONN_LISTEN]
            found += [Port(address.ip, address.port, name(pid)) for address in listening]
    return found


@pytest.fixture(scope="module")
def protocols(ports: list[Port]) -> dict[Port, Protocol]:
    """What each port speaks, by what it answers to the first bytes of a gRPC client."""
    with ThreadPoolExecutor(len(ports)) as pool:
        return dict(zip(ports, pool.map(lambda port: protocol(port.number), ports), strict=True))


def protocol(port: int) -> Protocol:
    with socket.create_connection(("127.0.0.1", port), SILENCE_SECONDS) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        try:
            answer = client.recv(64)
        except (TimeoutError, ConnectionError):
            return "other"
    if answer[3:4] == b"\4":  # the type of HTTP/2's settings frame
        return "grpc"
    return "http" if answer.startswith((b"HTTP/1", b"<!DOCTYPE")) else "other"


def test_every_port_of_a_run_listens_on_loopback(ports: list[Port]) -> None:
    assert [port for port in ports if port.address not in LOOPBACK] == []


def test_a_stranger_in_another_network_namespace_reaches_no_port(ports: list[Port]) -> None:
    with stranger() as other, socket.create_server(("", 0)) as door:
        open_port = door.getsockname()[1]
        assert other.reached([open_port]) == {open_port}, "the stranger has no way to this machine"
        assert other.reached(port.number for port in ports) == set()


def test_the_documentation_names_every_process_that_listens(ports: list[Port]) -> None:
    documented = set(re.findall(r"^\| `([^`]+)`", SECURITY.read_text(), re.MULTILINE))
    found = {port.process for port in ports}
    assert found <= documented
    # The autoscaler's port is always the same: on a machine with another Ray it does without.
    assert documented - found <= {"monitor.py"}


def test_ray_refuses_calls_without_its_token_and_with_a_wrong_one(
    protocols: dict[Port, Protocol],
) -> None:
    guarded = set()
    for port in (port for port, protocol in protocols.items() if protocol == "grpc"):
        answers = {call(port.number, method, token) for method in METHODS for token in ((), WRONG_TOKEN)}
        assert answers == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}, port
        guarded.add(port.process)
    assert guarded == {
        "scope train",
        "gcs_server",
        "raylet",
        "ray::DashboardAgent",
        "ray::ServeReplica",
        "ray::RayTrainWorker",
        "ray::*",
    }


def call(port: int, method: str, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """How a call with an empty body ends."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: Any = channel.unary_unary(method).future(b"", timeout=30, metadata=metadata)
        return answer.code()


def test_http_ports_serve_only_rays_metrics_without_a_token(protocols: dict[Port, Protocol]) -> None:
    served = set()
    for port in (port for port, protocol in protocols.items() if protocol == "http"):
        for path in ("/api/v0/actors", "/api/jobs/", "/v1/runs", "/get_or_create_runtime_env", "/metrics"):
            answer = httpx.get(f"http://127.0.0.1:{port.number}{path}", timeout=30)
            if answer.status_code not in (401, 403, 404, 405):
                # A metrics port answers every path with the metrics.
                assert re.search(r"^# (HELP|TYPE) ", answer.text, re.MULTILINE), (
                    port,
                    path,
                    answer.text[:200],
                )
                served.add(port.process)
    assert "ray::ServeReplica" in {port.process for port, protocol in protocols.items() if protocol == "http"}
    assert served <= {"dashboard.py", "monitor.py", "ray::DashboardAgent"}


def test_rays_token_is_in_no_argument_or_variable_and_only_its_owner_reads_it(live: Subject) -> None:
    token = live.ray_token_file.read_bytes().strip()
    assert len(token) == 64
    assert stat.S_IMODE(live.ray_token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(live.ray_token_file.parent.stat().st_mode) == 0o700
    for pid in (live.driver.pid, *descendants(live.driver.pid)):
        with suppress(OSError):  # it has ended
            for file in ("cmdline", "environ"):
                assert token not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_the_embedded_redis_wants_its_password(live: Subject) -> None:
    with Redis(port=live.redis_port) as client, pytest.raises(AuthenticationError):
        client.ping()
