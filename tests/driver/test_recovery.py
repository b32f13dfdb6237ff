"""A run that cannot recover fails immediately; a run that waits does so within bounds."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from redis.exceptions import RedisError

from services.access.run_secrets import RunSecrets
from services.driver.recovery import check_recoverable
from services.driver.redis_supervisor import RedisSupervisor
from services.host.orphans import kill_orphans
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.run.directory import RunDirectory
from services.run.state import read_status
from tests.chaos.proxy import Proxy
from tests.support.runs.checkpoints import state
from tests.support.runs.incarnations import Incarnations, measured
from trainer.checkpoint.store import CheckpointStore, disk_full
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.rollouts.curriculum import StepMix


@pytest.fixture
def directory(tmp_path: Path, run_id: str) -> RunDirectory:
    """A run with checkpoints of lineage 3 at steps 10 and 20."""
    directory = RunDirectory(tmp_path / run_id, run_id, RunConfig(), resumed=True)
    store = CheckpointStore(directory.path / "checkpoints", keep=3)
    for step in (10, 20):
        (store.writing(step, 3) / "weights").write_bytes(b"w")
        store.commit(state(step, lineage=3), lambda: None)
    return directory


def test_a_resumption_with_its_queue_and_a_whole_checkpoint_is_let_through(
    directory: RunDirectory, redis: Redis, run_id: str
) -> None:
    redis.set(RunKeys(run_id).fence, 3)
    check_recoverable(directory, redis)


def test_a_resumption_on_a_redis_that_lost_the_queue_is_refused(
    directory: RunDirectory, redis: Redis
) -> None:
    with pytest.raises(ScopeError, match="queue and data cursor are gone"):
        check_recoverable(directory, redis)


def test_a_resumption_without_a_whole_checkpoint_is_refused(
    directory: RunDirectory, redis: Redis, run_id: str
) -> None:
    redis.set(RunKeys(run_id).fence, 3)
    for checkpoint in (directory.path / "checkpoints").iterdir():
        (checkpoint / "weights").write_bytes(b"x")
    with pytest.raises(ScopeError, match="None of the 2 checkpoints"):
        check_recoverable(directory, redis)


def test_a_learner_on_a_redis_that_lost_the_queue_is_refused(
    redis_access: RedisAccess, run_id: str, tmp_path: Path
) -> None:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    try:
        rank_zero = incarnations.begin()
        incarnations.learn(rank_zero, 1)
        incarnations.checkpoint(rank_zero)
        incarnations.queue.redis.delete(RunKeys(run_id).fence)
        with pytest.raises(ScopeError, match="queue and data cursor are gone"):
            incarnations.begin()
    finally:
        incarnations.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate 2 MiB file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before_and_is_named(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints", keep=3)
    (store.writing(10, 1) / "weights").write_bytes(b"w" * 500_000)
    before = store.commit(state(10, lineage=1), lambda: None)
    with pytest.raises(OSError, match="No space left") as caught:
        (store.writing(20, 1) / "weights").write_bytes(b"w" * 2_000_000)
    said = disk_full(before, caught.value)
    assert said is not None
    assert "scope train --resume" in str(said)
    # torch does not pass the cause on.
    assert disk_full(before, RuntimeError("PytorchStreamWriter failed writing file")) is not None
    assert store.newest() == before


def test_other_errors_while_a_checkpoint_is_written_stay_what_they_are(tmp_path: Path) -> None:
    assert disk_full(tmp_path / "step", RuntimeError("Connection closed by peer")) is None
    assert disk_full(tmp_path / "step", OSError(errno.EIO, "Input/output error")) is None


Serve = Callable[..., RedisSupervisor]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start the run's queue server as the driver does."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    started: list[RedisSupervisor] = []

    def start(url: str | None = None) -> RedisSupervisor:
        config = RunConfig.model_validate({"redis": {"url": url}})
        path = tmp_path / "run"
        path.mkdir()
        secrets = RunSecrets(path)
        secrets.ensure()
        server = RedisSupervisor(RunDirectory(path, "run", config, resumed=False), secrets)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


def kill(server: RedisSupervisor) -> None:
    """Send SIGKILL to the embedded server."""
    with server.access.without_retries() as redis:
        pid = redis.info("server")["process_id"]  # pyright: ignore[reportIndexIssue]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while server._embedded is not None and server._embedded.pid is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_embedded_server_is_restarted_three_times_in_a_row(serve: Serve) -> None:
    server = serve()
    for attempt in (1, 2, 3):
        kill(server)
        assert server.keep_alive() == f"the embedded Redis had ended and is restarted ({attempt} of 3)"
        assert server.keep_alive() is None
    kill(server)
    with pytest.raises(ScopeError, match="ended again after 3 restarts"):
        server.keep_alive()


def test_an_embedded_server_that_ran_for_a_while_has_all_its_restarts_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.driver.redis_supervisor.HEALTHY_SECONDS", 0.0)
    server = serve()
    for _ in range(5):
        kill(server)
        assert server.keep_alive() == "the embedded Redis had ended and is restarted (1 of 3)"


def test_an_embedded_server_that_cannot_start_again_ends_the_run_with_the_reason(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    kill(server)
    monkeypatch.setattr("services.redis.embedded.LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(ScopeError, match=r"disk of .* is full"):
        server.keep_alive()


def test_a_server_of_ones_own_is_waited_for_within_bounds(
    serve: Serve, redis_access: RedisAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.driver.redis_supervisor.PATIENCE_SECONDS", 1.5)
    assert redis_access.password_file is not None
    monkeypatch.setenv("SCOPE_REDIS_PASSWORD", Path(redis_access.password_file).read_text())
    port = int(redis_access.url.rpartition(":")[2].split("/")[0])
    with Proxy(port) as proxy:
        server = serve(f"redis://127.0.0.1:{proxy.port}/0")

        def ask_until_given_up(seconds: float) -> bool:
            """Poll as the driver's loop does; True if it gave up."""
            deadline = time.monotonic() + seconds
            with server.access.without_retries() as redis:
                while time.monotonic() < deadline:
                    try:
                        read_status(redis, "run")
                    except RedisError as error:
                        try:
                            server.missed(error)
                        except RedisError:
                            return True
                    else:
                        server.answered()
                    time.sleep(0.05)
            return False

        assert not ask_until_given_up(0.3)
        proxy.cut()
        assert not ask_until_given_up(0.7)
        proxy.mend()
        assert not ask_until_given_up(0.3)
        proxy.cut()
        assert not ask_until_given_up(1.0), "a response must restart the time limit"
        assert ask_until_given_up(5.0)


def test_a_learner_rides_out_a_cut_link_to_redis(
    redis_access: RedisAccess, run_id: str, tmp_path: Path
) -> None:
    port = int(redis_access.url.rpartition(":")[2].split("/")[0])
    with Proxy(port) as proxy:
        through = RedisAccess(f"redis://127.0.0.1:{proxy.port}/0", redis_access.password_file)
        incarnations = Incarnations(through, run_id, tmp_path / run_id)
        try:
            rank_zero = incarnations.begin()
            for _ in range(3):
                proxy.cut()
                threading.Timer(1.0, proxy.mend).start()
                incarnations.learn(rank_zero, 2)
                incarnations.checkpoint(rank_zero)
            assert incarnations.queue.stats.dead_lettered == 0
            assert incarnations.queue.stats.duplicates == 0
        finally:
            incarnations.close()


def test_only_processes_with_files_in_the_dead_session_are_ended(tmp_path: Path) -> None:
    def writer(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(parents=True)
        with (folder / "log").open("w") as log:
            return subprocess.Popen(["sleep", "60"], stdout=log)

    dead, other = writer(tmp_path / "scope-1" / "logs"), writer(tmp_path / "scope-12" / "logs")
    try:
        assert kill_orphans(tmp_path / "scope-1") == [dead.pid]
        assert dead.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()


def test_a_curriculum_goes_on_from_the_checkpoint_with_the_mixes_that_generators_have(
    redis: Redis, redis_access: RedisAccess, run_id: str, tmp_path: Path
) -> None:
    incarnations = Incarnations(redis_access, run_id, tmp_path / "run", groups=6, curriculum=True)
    try:
        first = incarnations.begin()
        for _ in range(4):
            incarnations.learn(first, 1)
            first.learned(measured(0.3), 1.0)
            if incarnations.step == 3:
                incarnations.checkpoint(first)
                assert first._control.curriculum is not None
                kept = first._control.curriculum.state()
        second = incarnations.begin()
        assert second._control.curriculum is not None
        assert second._control.curriculum.state() == kept
        assert None not in second._control.curriculum.pass_rates, "no part was measured"
        published = {
            int(step): msgspec.json.decode(mix, type=StepMix)
            for step, mix in redis.hgetall(RunKeys(run_id).curriculum).items()  # pyright: ignore[reportAttributeAccessIssue]
        }
        assert {
            step: published[step] for step in second._control.curriculum.mixes
        } == second._control.curriculum.mixes
        record = first._recorder._values
        assert sum(record["mixture_shares"].values()) == pytest.approx(1)
        assert record["mixture_pass_rates"].keys() == {"0", "1"}
    finally:
        incarnations.close()
