"""`run_state.json`: it holds what a live run has in Redis only, and is up to date when the driver has ended."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from services.recorded.saved_state import FILE, StateFile, read_saved, restore, take_state
from services.redis.access import RedisAccess
from services.redis.embedded import EmbeddedRedis
from services.run.state import update_status
from tests.support.control_plane import start_run
from trainer.config import RedisConfig
from trainer.errors import ScopeError


def test_restored_documents_are_those_that_were_saved(finished_run: Path, redis: Redis) -> None:
    saved = read_saved(finished_run)
    assert saved is not None
    assert {"entropy_target_history", "audit"} <= saved.streams.keys()
    other = f"restored-{uuid.uuid4().hex[:8]}"
    restore(redis, other, saved)
    again = take_state(redis, other)
    assert again.streams == saved.streams
    assert again.hashes == {name: fields for name, fields in saved.hashes.items() if name != "status"}
    restore(redis, other, saved)
    assert take_state(redis, other).streams == saved.streams


def test_no_token_and_no_password_is_saved(finished_run: Path, redis_access: RedisAccess) -> None:
    text = (finished_run / FILE).read_text()
    assert redis_access.password_file is not None
    assert Path(redis_access.password_file).read_text() not in text
    assert "0123456789abcdef" not in text


def test_the_phase_in_which_the_driver_ends_is_saved(
    tmp_path: Path, redis: Redis, redis_access: RedisAccess, run: str
) -> None:
    with StateFile(tmp_path, run, redis_access):
        first = read_saved(tmp_path)
        assert first is not None
        assert first.hashes["status"]["phase"] == "starting"
        update_status(redis, run, phase="finished", step=3)
    last = read_saved(tmp_path)
    assert last is not None
    assert (last.hashes["status"]["phase"], last.hashes["status"]["step"]) == ("finished", "3")


def test_the_reason_is_saved_when_redis_has_gone(tmp_path: Path) -> None:
    server = EmbeddedRedis(RedisConfig(), data_dir=tmp_path / "data", state_dir=tmp_path / "state")
    access = server.start()
    with access.sync() as redis:
        start_run(redis, "r")
    with contextlib.suppress(ScopeError), StateFile(tmp_path, "r", access):
        server.stop()
        raise ScopeError("The embedded Redis was lost.")
    saved = read_saved(tmp_path)
    assert saved is not None
    assert saved.hashes["status"]["phase"] == "failed"
    assert saved.hashes["status"]["error"] == "The embedded Redis was lost."


def test_a_run_does_not_notice_that_its_state_cannot_be_written(
    tmp_path: Path, redis_access: RedisAccess, run: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with StateFile(folder, run, redis_access):
        shutil.rmtree(folder)
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["{", "[]", '{"run_id": 3}', "\x00"])
def test_a_damaged_file_is_named(directory: Path, damage: str) -> None:
    (directory / FILE).write_text(damage)
    with pytest.raises(ScopeError, match=f"{FILE} cannot be read"):
        read_saved(directory)


def test_names_of_other_keys_are_not_restored(directory: Path, redis: Redis, run_id: str) -> None:
    saved = read_saved(directory)
    assert saved is not None
    foreign = {"tokens": {"digest": json.dumps({})}, "status": {"phase": "running"}}
    restore(redis, run_id, msgspec.structs.replace(saved, hashes=saved.hashes | foreign))
    assert not redis.keys(f"*{run_id}*tokens")
    assert not redis.keys(f"*{run_id}*status")
