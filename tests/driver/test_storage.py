"""A run whose directory is removed, full or read-only ends with one sentence that says so."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError, ResponseError

from services.driver.storage import Storage
from services.redis.embedded import EmbeddedRedis
from services.run.directory import CONFIG_FILE
from tests.support.small_disk import small_disk_at
from trainer.config import RedisConfig
from trainer.errors import ScopeError


def run_in(path: Path) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    (path / CONFIG_FILE).write_text("seed: 1\n")
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 72 MiB, on which a server of the queue starts."""
    with small_disk_at(tmp_path / "disk", 72) as folder:
        yield folder


def said(storage: Storage, error: BaseException) -> str:
    explained = storage.explain(error)
    assert explained is not None
    return str(explained)


@pytest.mark.parametrize("how", ["removed", "emptied", "replaced"])
def test_a_directory_that_was_taken_away_is_noticed_and_named(tmp_path: Path, how: str) -> None:
    path = run_in(tmp_path / "run")
    storage = Storage(path)
    storage.check()
    shutil.move(path, tmp_path / "elsewhere")
    if how == "emptied":
        path.mkdir()
    elif how == "replaced":
        run_in(path)
    with pytest.raises(ScopeError, match=rf"The run directory {path} was removed or replaced"):
        storage.check()
    assert "was removed or replaced" in said(storage, ScopeError("the learner ended: FileNotFoundError"))


def test_a_disk_that_fills_is_noticed_and_named(disk: Path) -> None:
    storage = Storage(run_in(disk / "run"))
    storage.check()
    (disk / "other").write_bytes(b"x" * (70 << 20))
    with pytest.raises(ScopeError, match=rf"The disk of the run directory {disk / 'run'} is full") as caught:
        storage.check()
    assert f"scope train --resume {disk / 'run'}" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
        ScopeError(
            "base-generator-0 ended again after 3 restarts: ResponseError: MISCONF … No space left on device"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_found_in_what_the_parts_of_a_run_report(tmp_path: Path, error: Exception) -> None:
    storage = Storage(run_in(tmp_path / "run"))
    assert "is full, so the run has ended" in said(storage, error)
    wrapped = RuntimeError("the run ended")
    wrapped.__cause__ = error
    assert "is full, so the run has ended" in said(storage, wrapped)


def test_a_queue_that_can_no_longer_be_written_is_blamed_on_its_disk_and_ends(
    disk: Path, tmp_path: Path
) -> None:
    storage = Storage(run_in(disk / "run"))
    config = RedisConfig(appendfsync="everysec")
    with EmbeddedRedis(config, data_dir=disk / "run" / "redis", state_dir=tmp_path / "state") as server:
        with (disk / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, shutil.disk_usage(disk).free)
        with server.access.sync() as redis:
            # The server learns of the full disk when it writes this one.
            redis.set("first", b"x" * 100_000)
            with pytest.raises(RedisError, match="MISCONF") as caught:
                redis.set("second", b"x")
        (disk / "other").unlink()
        assert "is full, so the run has ended" in said(storage, caught.value)
        pid = server.pid
    assert pid is None or not Path(f"/proc/{pid}").exists()


def test_a_disk_that_turned_read_only_is_named(disk: Path) -> None:
    storage = Storage(run_in(disk / "run"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "can no longer be written" in said(storage, OSError(errno.EROFS, "Read-only file system"))
    assert "can no longer be written" in said(storage, ScopeError("the learner ended"))


def test_other_failures_are_not_blamed_on_the_disk(tmp_path: Path) -> None:
    storage = Storage(run_in(tmp_path / "run"))
    assert storage.explain(ScopeError("the learner ended: ValueError: a gradient is not finite")) is None
    assert storage.explain(OSError(errno.ECONNREFUSED, "Connection refused")) is None
