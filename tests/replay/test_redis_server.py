"""The embedded Redis and connections to any Redis, with real servers and real crashes."""

import asyncio
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from services.redis import embedded
from services.redis.access import PASSWORD_VARIABLE, RedisAccess, check
from services.redis.embedded import EmbeddedRedis, find_server
from services.replay.entries import Entry
from services.replay.outbox import Outbox
from services.replay.producer import Finished
from tests.support.replay_harness import Queue
from tests.support.repository import ROOT
from trainer.config import RedisConfig
from trainer.errors import ScopeError

Start = Callable[..., EmbeddedRedis]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers on one pair of directories, and stops them at the end."""
    servers: list[EmbeddedRedis] = []

    def start(port: int | None = None, **config: Any) -> EmbeddedRedis:
        server = EmbeddedRedis(
            RedisConfig(**config),
            data_dir=tmp_path / 'a "run"' / "redis",
            state_dir=tmp_path / "state",
            port=port,
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def program(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


# --- the server


def test_the_server_is_private_durable_and_never_evicts(start: Start, tmp_path: Path) -> None:
    server = start(appendfsync="always")
    assert check(server.access) == []
    client = server.access.sync()
    settings = client.config_get("bind", "appendonly", "appendfsync", "maxmemory-policy", "save")
    assert settings == {
        "bind": "127.0.0.1",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    with pytest.raises(AuthenticationError):
        RedisAccess(server.access.url).without_retries().get("x")


def test_the_password_is_in_private_files_and_nowhere_else(start: Start, tmp_path: Path) -> None:
    server = start()
    password = (tmp_path / "state" / "password").read_text()
    assert len(password) >= 32
    for name in ("password", "redis.conf"):
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert server.pid is not None
    process = psutil.Process(server.pid)
    assert password not in " ".join([*process.cmdline(), *process.environ().values()])
    access = server.access
    assert password not in repr(access)
    assert password.encode() not in pickle.dumps(access)
    run_dir = tmp_path / 'a "run"'
    assert not any(password.encode() in p.read_bytes() for p in run_dir.rglob("*") if p.is_file())


def test_stopping_is_orderly_and_the_next_start_finds_everything(start: Start) -> None:
    first = start()
    pid, access = first.pid, first.access
    access.sync().set("kept", "1")
    first.stop()
    first.stop()
    assert pid is not None
    assert gone(pid, 0)
    assert "bye bye" in first.log.read_text()
    assert start().access.sync().get("kept") == b"1"


def test_the_server_dies_with_its_parent_and_outlives_its_ctrl_c(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from services.redis.embedded import EmbeddedRedis;"
        "from trainer.config import RedisConfig; d = Path(sys.argv[1]);"
        "s = EmbeddedRedis(RedisConfig(), data_dir=d / 'r', state_dir=d / 's'); s.start();"
        "print(s.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert os.getpgid(pid) != os.getpgid(parent.pid)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(pid, 5)


def test_two_servers_never_open_one_queue(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.redis.embedded.LOCK_SECONDS", 0.3)
    first = start()
    with pytest.raises(ScopeError, match="this run is alive elsewhere"):
        start()
    first.access.sync().ping()
    first.stop()
    start().access.sync().ping()


def test_a_start_waits_for_the_server_of_a_killed_driver_to_end(start: Start) -> None:
    first = start()
    threading.Timer(1.0, first.stop).start()
    start().access.sync().ping()


def test_a_port_that_is_taken_is_named(start: Start) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScopeError, match=f"Port {port} of 127.0.0.1, .* is taken by another program"):
            start(port=port)


def test_another_port_is_tried_when_the_free_one_is_taken_meanwhile(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        ports = iter([taken.getsockname()[1], probe.getsockname()[1]])
        probe.close()
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        start().access.sync().ping()


def test_a_damaged_append_only_file_is_refused_with_the_remedy(start: Start) -> None:
    server = start()
    client = server.access.sync()
    for i in range(50):
        client.set(f"key-{i}", "x" * 100)
    server.stop()
    (increment,) = (server.log.parent / "appendonlydir").glob("*.incr.aof")
    data = bytearray(increment.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    increment.write_bytes(data)
    with pytest.raises(ScopeError, match=r"append-only file in .* is damaged.*check-aof --fix"):
        start()


def test_a_torn_last_write_is_no_obstacle(start: Start) -> None:
    server = start()
    server.access.sync().set("kept", "1")
    server.access.sync().set("torn", "x" * 100)
    server.stop()
    (increment,) = (server.log.parent / "appendonlydir").glob("*.incr.aof")
    os.truncate(increment, increment.stat().st_size - 30)
    client = start().access.sync()
    assert (client.get("kept"), client.get("torn")) == (b"1", None)


def test_a_full_disk_is_refused_before_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(ScopeError, match=r"The disk of .* is full"):
        start()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server = EmbeddedRedis(RedisConfig(), data_dir=tmp_path / "file" / "redis", state_dir=tmp_path / "state")
    with pytest.raises(ScopeError, match=r"cannot write .*file/redis: Not a directory"):
        server.start()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Redis server v=6.2.14 sha=00000000:0", "is not Redis 7.0 or newer"),
        ("some other program 9.1", "is not Redis 7.0 or newer"),
    ],
)
def test_an_old_or_strange_program_is_refused(tmp_path: Path, said: str, message: str) -> None:
    config = RedisConfig(server_binary=program(tmp_path / "server", f"echo '{said}'"))
    with pytest.raises(ScopeError, match=message):
        find_server(config)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ScopeError, match=r"redis.server_binary = '/nowhere/redis-server' is not a program"):
        find_server(RedisConfig(server_binary="/nowhere/redis-server"))


def test_a_link_to_a_program_is_called_by_its_own_name(tmp_path: Path) -> None:
    program(tmp_path / "redis-check-rdb", "echo Redis server v=7.0.15")
    (tmp_path / "redis-server").symlink_to("redis-check-rdb")
    assert find_server(RedisConfig(server_binary=str(tmp_path / "redis-server"))) == tmp_path / "redis-server"


def test_a_program_that_ends_at_once_is_quoted(start: Start, tmp_path: Path) -> None:
    binary = program(
        tmp_path / "server",
        '[ "$1" = --version ] && echo "v=7.2.0" && exit',
        "echo broken pipe fitting; exit 1",
    )
    with pytest.raises(ScopeError, match="ended at its start: broken pipe fitting"):
        start(server_binary=binary)


# --- crash of the server


def kill(server: EmbeddedRedis) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.01)


def test_no_accepted_group_is_lost_or_doubled_when_the_server_is_killed(start: Start) -> None:
    server = start(appendfsync="always")
    queue = Queue(server.access, "run", capacity=10**6)
    outbox = Outbox(queue.producer, "base", "g0")
    total, workers = 400, 8
    outcomes: dict[int, str] = {}
    entries: list[Entry] = []

    async def worker(ordinals: list[int]) -> None:
        for ordinal in ordinals:
            outcomes[ordinal] = await outbox.put(Finished(ordinal, 0, b"x" * 2000))

    async def add_all() -> None:
        ordinals = (await queue.producer.lease("base", "g0", total, total, 3600)).ordinals
        adding = [asyncio.create_task(worker(ordinals[i::workers])) for i in range(workers)]
        while len(outcomes) < total // 4:
            await asyncio.sleep(0)
        kill(server)
        server.start()
        entries.extend(queue.consumer.read(total, 0))
        found = {entry.ordinal for entry in entries}
        assert found >= set(outcomes), "accepted groups must survive"
        assert len(found) <= len(outcomes) + workers, (
            "besides those, only calls in flight may have been applied"
        )
        await asyncio.gather(*adding)

    queue.run(add_all())
    entries.extend(queue.consumer.read(total, 0))
    assert sorted(entry.ordinal for entry in entries) == list(range(total))
    assert list(outcomes.values()).count("duplicate") <= workers
    assert queue.stats.produced == queue.stats.read == total
    queue.close()


def test_clients_wait_while_the_server_restarts(start: Start) -> None:
    server = start()
    client = server.access.sync()
    client.set("kept", "1")
    kill(server)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "kept")
        time.sleep(0.3)
        assert not answer.done()
        server.start()
        assert answer.result(5) == b"1"


def test_clients_give_up_on_a_server_that_stays_away(start: Start) -> None:
    server = start()
    client = server.access.sync()
    client.ping()
    kill(server)
    started = time.monotonic()
    with pytest.raises(RedisConnectionError):
        client.ping()
    assert 4 < time.monotonic() - started < 12


# --- connecting to a Redis


def test_a_dead_address_is_refused_within_the_time_limit() -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{probe.getsockname()[1]}/0"
        started = time.monotonic()
        with pytest.raises(ScopeError, match=f"redis.url = '{url}' cannot be used"):
            check(RedisAccess(url, connect_timeout_seconds=1))
        assert time.monotonic() - started < 2


def test_a_server_that_never_answers_is_refused_within_the_time_limit() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        started = time.monotonic()
        with pytest.raises(ScopeError, match="cannot be used"):
            check(RedisAccess(f"redis://127.0.0.1:{silent.getsockname()[1]}", connect_timeout_seconds=0.5))
        assert time.monotonic() - started < 3


def test_the_password_comes_from_the_environment(start: Start, tmp_path: Path, monkeypatch: Any) -> None:
    access = RedisAccess(start().access.url)
    with pytest.raises(ScopeError, match=PASSWORD_VARIABLE):
        check(access)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(ScopeError, match=PASSWORD_VARIABLE):
        check(access)
    monkeypatch.setenv(PASSWORD_VARIABLE, (tmp_path / "state" / "password").read_text())
    assert check(access) == []


def test_a_password_file_that_is_gone_is_named(start: Start) -> None:
    with pytest.raises(ScopeError, match="cannot be read from /nowhere/password"):
        check(RedisAccess(start().access.url, "/nowhere/password"))


def test_an_unusable_address_is_named() -> None:
    with pytest.raises(ScopeError, match=r"redis.url = 'http://x' is not usable"):
        RedisAccess("http://x").sync()


def test_a_server_that_evicts_or_forgets_is_refused_or_warned_about(start: Start) -> None:
    server = start()
    client = server.access.sync()
    client.config_set("appendonly", "no")
    assert [w for w in check(server.access) if "append-only" in w]
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert [w for w in check(server.access) if "noeviction" in w]
    client.config_set("maxmemory", "1gb")
    with pytest.raises(ScopeError, match="maxmemory-policy allkeys-lru"):
        check(server.access)


def test_tls_is_chosen_by_the_address() -> None:
    client = RedisAccess("rediss://queue.example:6380/0?ssl_ca_certs=/etc/ca.pem").sync()
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    assert client.connection_pool.connection_kwargs["ssl_ca_certs"] == "/etc/ca.pem"
