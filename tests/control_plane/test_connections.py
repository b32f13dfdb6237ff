"""Connections of clients without a token: large, slow, silent or many, they neither stop the server nor stay."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from services.access.tokens import create_token
from services.control_plane.connections.message_limits import BODY_BYTES, HEAD_BYTES, HEADER_FIELDS
from services.control_plane.connections.open_connections import OpenConnections, network_of
from services.control_plane.connections.turns import AT_ONCE
from services.control_plane.http import auth
from services.control_plane.routes import events
from services.redis.access import RedisAccess
from tests.support.control_plane import start_run
from tests.support.raw_http import (
    PATIENCE_SECONDS,
    Address,
    answer,
    asked,
    closed_within,
    connected,
    request,
    serving,
)
from trainer.config import ControlPlaneConfig

LIMITS = ControlPlaneConfig(
    reads_per_minute=10**9,
    connections=24,
    connections_per_address=16,
    header_timeout_seconds=0.6,
    body_timeout_seconds=0.6,
    idle_timeout_seconds=1,
)


@pytest.fixture(scope="module")
def server(redis_access: RedisAccess) -> Iterator[Address]:
    """A control plane with short limits."""
    with serving(redis_access, LIMITS) as address:
        yield address


@pytest.fixture
def reader(redis: Redis, run_id: str) -> bytes:
    """A read of a run, with a token."""
    start_run(redis, run_id)
    token = create_token(redis, run_id, "eve", "viewer")
    return request("GET", f"/v1/runs/{run_id}", f"Authorization: Bearer {token}")


def sent_until_refused(connection: socket.socket, piece: bytes, most: int) -> int:
    """Send `piece` again and again, up to `most` bytes, until the server takes no more; returns the bytes sent."""
    total, connection_timeout = 0, 2.0
    connection.settimeout(connection_timeout)
    with contextlib.suppress(OSError):
        while total < most:
            total += connection.send(piece)
    return total


HOST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
REFUSED = {
    "field without end": (HOST + b"X: " + b"a" * HEAD_BYTES, 431),
    "long field": (HOST + b"X: " + b"a" * 2 * HEAD_BYTES + b"\r\n\r\n", 431),
    "many fields": (HOST + b"a: b\r\n" * (HEADER_FIELDS + 1) + b"\r\n", 431),
    "fields without end": (HOST + b"a:\r\n" * 60_000, 431),
    "target without end": (b"GET /" + b"a" * HEAD_BYTES, 414),
    "long target": (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "method without end": (b"A" * HEAD_BYTES * 2, 414),
    "version": (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    "field name": (HOST + b"bad name: x\r\n\r\n", 400),
    "request line": (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "two lengths": (HOST + b"Content-Length: 1, 2\r\n\r\n", 400),
    "transfer coding": (HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "two framings": (HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
}


@pytest.mark.parametrize(("head", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_within_the_limits_gets_a_problem_body_and_ends(
    server: Address, head: bytes, status: int
) -> None:
    with connected(server) as connection:
        connection.sendall(head)
        found = answer(connection)
        assert found.status == status
        assert found.problem()["title"]
        assert found.headers["connection"] == "close"
        assert closed_within(connection, PATIENCE_SECONDS) < PATIENCE_SECONDS


def test_a_header_of_64_mb_is_refused_after_its_first_kilobytes(server: Address, reader: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        sent = sent_until_refused(connection, b"a" * 65536, 64 << 20)
        assert sent < 32 << 20
        assert asked(server, reader).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100000000\r\n\r\n" + b"a" * 4 * BODY_BYTES,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"a" * 65536 + b"\r\n" + b"1\r\na\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000,
    ],
    ids=["length", "chunk", "chunks", "trailers"],
)
def test_a_body_without_end_is_refused(server: Address, body: bytes) -> None:
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"PUT /v1/runs/x/entropy-target HTTP/1.1\r\nHost: localhost\r\n" + body)
        found = answer(connection)
        assert found.status in (401, 413)
        found.problem()
        assert closed_within(connection, PATIENCE_SECONDS) < PATIENCE_SECONDS


@pytest.mark.parametrize(
    "sent", [b"", b"G", HOST[:16], HOST + b"X: a"], ids=["nothing", "byte", "line", "field"]
)
def test_a_header_that_does_not_arrive_is_answered_408(server: Address, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        found = answer(connection)
        assert found.status == 408
        assert "0.6 seconds" in found.problem()["detail"]
        closed_within(connection, PATIENCE_SECONDS)


def test_a_header_that_arrives_byte_by_byte_is_answered_408(server: Address) -> None:
    with connected(server) as connection:
        began = time.monotonic()
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: aaaaaaaaaaaaaaaaaaa\r\n" * 100:
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
            if time.monotonic() - began > PATIENCE_SECONDS:
                pytest.fail("it is still read")
            time.sleep(0.02)
        assert answer(connection).status == 408


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_is_answered_408(
    server: Address, redis: Redis, run_id: str, framing: str
) -> None:
    start_run(redis, run_id)
    token = create_token(redis, run_id, "ada", "operator")
    fields = (f"Authorization: Bearer {token}", "If-Match: *", "Content-Type: application/json", framing)
    with connected(server) as connection:
        connection.sendall(request("PUT", f"/v1/runs/{run_id}/entropy-target", *fields))
        found = answer(connection)
        assert found.status == 408
        assert "body" in found.problem()["detail"]
        closed_within(connection, PATIENCE_SECONDS)


def test_a_body_that_drips_after_its_answer_ends_too(server: Address) -> None:
    with connected(server) as connection:
        connection.sendall(request("PUT", "/v1/nowhere", "Content-Length: 1000"))
        assert answer(connection).status == 404
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < PATIENCE_SECONDS:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - began < PATIENCE_SECONDS


def test_an_idle_connection_is_closed(server: Address) -> None:
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(request("GET", "/healthz"))
            assert answer(connection).status == 200
        assert closed_within(connection, PATIENCE_SECONDS) >= 0.5


def test_a_client_that_does_not_read_is_cut(
    redis_access: RedisAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.control_plane.connections import protocol

    monkeypatch.setattr(protocol, "STALL_SECONDS", 0.5)
    with serving(redis_access, LIMITS) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(server)
        with contextlib.suppress(OSError):
            # More answers than the buffers of both kernels hold.
            for _ in range(2000):
                connection.sendall(request("GET", "/openapi.json") * 4)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                connection.sendall(b"G")
            except OSError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the connection is still open")


def test_hundreds_of_silent_connections_keep_nobody_out(server: Address, reader: bytes) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(200)]
        for _ in range(5):
            began = time.monotonic()
            assert asked(server, reader).status == 200
            assert time.monotonic() - began < PATIENCE_SECONDS / 4
        for connection in silent:
            closed_within(connection, PATIENCE_SECONDS)


def test_a_connection_with_a_token_stays_while_silent_ones_make_room(server: Address, reader: bytes) -> None:
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(connected(server))
        for _ in range(4):
            known.sendall(reader)
            assert answer(known).status == 200
            for _ in range(LIMITS.connections_per_address):
                stack.enter_context(connected(server))


def test_requests_in_progress_are_not_closed_to_make_room(
    server: Address, redis: Redis, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WAIT_MILLISECONDS", 1500)
    start_run(redis, run_id)
    token = create_token(redis, run_id, "eve", "viewer")
    stream = request("GET", f"/v1/runs/{run_id}/events", f"Authorization: Bearer {token}")
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(LIMITS.connections_per_address):
            streams.append(stack.enter_context(connected(server, "127.0.0.9")))
            streams[-1].sendall(stream)
            assert answer(streams[-1]).status == 200
        one_more = stack.enter_context(connected(server, "127.0.0.9"))
        found = answer(one_more)
        assert found.status == 503
        assert found.headers["retry-after"] == "5"
        found.problem()
        other = stack.enter_context(connected(server, "127.0.0.8"))
        other.sendall(request("GET", "/healthz"))
        assert answer(other).status == 200
        # The comment comes later than every limit on the arrival of requests.
        while b"still here" not in streams[0].recv(65536):
            pass


def test_pipelined_requests_are_answered_in_order(server: Address) -> None:
    with connected(server) as connection:
        connection.sendall(
            request("GET", "/healthz") + request("GET", "/nowhere") + request("GET", "/healthz")
        )
        received = b""
        while received.count(b"HTTP/1.1 ") < 3:
            received += connection.recv(65536)
        statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404", b"200"]


def test_others_are_answered_quickly_while_large_headers_arrive(server: Address, reader: bytes) -> None:
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), connected(server, "127.0.0.7") as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
                sent_until_refused(connection, b"a" * 65536, 64 << 20)

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for attacker in attackers:
        attacker.start()
    try:
        times = []
        for _ in range(30):
            began = time.monotonic()
            assert asked(server, reader).status == 200
            times.append(time.monotonic() - began)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    assert sorted(times)[len(times) // 2] < 1.0


def test_invalid_tokens_wait_for_one_another_and_not_for_the_owner_of_a_valid_one(
    redis_access: RedisAccess, reader: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`look_up` holds each request with an invalid token, as a slow answer of Redis would."""
    held, most = threading.Semaphore(0), [0]
    in_progress = set[int]()
    visible = auth.tokens.visible_runs

    def look_up(redis: Redis, token: str) -> list[str] | None:
        if token == "scope_wrong":
            in_progress.add(threading.get_ident())
            most[0] = max(most[0], len(in_progress))
            assert held.acquire(timeout=PATIENCE_SECONDS)
            in_progress.discard(threading.get_ident())
        return visible(redis, token)

    monkeypatch.setattr(auth.tokens, "visible_runs", look_up)
    wrong = request("GET", "/v1/runs", "Authorization: Bearer scope_wrong")
    with serving(redis_access, LIMITS) as server, contextlib.ExitStack() as stack:
        known = stack.enter_context(connected(server))
        known.sendall(reader)
        assert answer(known).status == 200
        crowd = []
        for _ in range(3 * AT_ONCE):
            crowd.append(stack.enter_context(connected(server)))
            crowd[-1].sendall(wrong)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(in_progress) < AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # Neither a connection that has shown its token nor another address waits.
        for connection in (known, stack.enter_context(connected(server, "127.0.0.6"))):
            connection.sendall(reader)
            assert answer(connection).status == 200
        for _ in crowd:
            held.release()
        assert [answer(connection).status for connection in crowd] == [401] * len(crowd)
        assert most == [AT_ONCE]


def test_a_body_that_does_not_arrive_takes_no_turn(server: Address, reader: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * AT_ONCE):
            connection = stack.enter_context(connected(server))
            connection.sendall(
                request("POST", "/v1/tokens", "Content-Type: application/json", "Content-Length: 9")
            )
        began = time.monotonic()
        assert asked(server, reader).status == 200
        assert time.monotonic() - began < PATIENCE_SECONDS / 4


class Waits:
    """A connection that waits for its client since a given time, or is busy."""

    def __init__(self, since: tuple[bool, float] | None) -> None:
        self.waits_since, self.closed = since, False

    def evict(self) -> None:
        self.closed = True


def test_the_one_without_a_token_that_waits_longest_makes_room() -> None:
    connections = OpenConnections(most=4, most_per_address=3)
    busy, known, young, old = (Waits(s) for s in (None, (True, 1.0), (False, 3.0), (False, 2.0)))
    assert all(connections.enter(one, place) for one, place in [(busy, "a"), (known, "b"), (young, "b")])
    assert connections.enter(old, "b")
    assert connections.enter(Waits((False, 9.0)), "c")
    assert (old.closed, young.closed, known.closed, busy.closed) == (True, False, False, False)
    assert len(connections) == 4


def test_a_busy_crowd_lets_nobody_in_and_leaves_no_trace() -> None:
    connections = OpenConnections(most=9, most_per_address=2)
    crowd = [Waits(None), Waits(None)]
    assert all(connections.enter(one, "a") for one in crowd)
    refused = Waits(None)
    assert not connections.enter(refused, "a")
    connections.leave(refused)
    assert len(connections) == 2
    for one in crowd:
        connections.leave(one)
    assert len(connections) == 0
    assert connections.enter(refused, "a")


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1") != network_of("10.0.0.2")
    assert network_of("testclient") == "testclient"
