"""Lua scripts: composition from fragments, compilation by Redis, and the one fencing check of the learner's scripts."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from services.entropy_target.store import initialise_entropy_target, mark_applied, record_starting_entropy
from services.records.redis_records import RedisRecords
from services.redis.fencing import FencedError, call_fenced, fenced_error
from services.redis.keys import RunKeys
from services.redis.scripts import script_text
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.replay.stream_reader import StreamReader
from services.run.state import update_status
from tests.support.repository import ROOT

FILES = sorted((ROOT / "services").rglob("lua/*.lua"))
FRAGMENTS = [path for path in FILES if path.read_text().startswith("-- Fragment: ")]
SCRIPTS = [path for path in FILES if path not in FRAGMENTS]
INCLUDE = re.compile(r"-- include: (\w+)")


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parent.parts)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT / "services"))


def header(text: str) -> str:
    """The comment at the top of a file."""
    lines = text.removeprefix(text.split("\n", 1)[0] + "\n" if text.startswith("#!") else "").split("\n")
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))])


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_redis_compiles_every_script(redis: Redis, path: Path) -> None:
    text = script_text(package_of(path), path.stem)
    assert not INCLUDE.search(text)
    assert text.startswith("#!lua") == path.read_text().startswith("#!lua")
    redis.script_load(text)


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_every_script_says_what_it_takes_and_returns(path: Path) -> None:
    said = header(path.read_text())
    assert "-- KEYS" in said
    assert "-- Returns " in said


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_every_script_is_run_by_a_module_beside_it(path: Path) -> None:
    modules = path.parent.parent.glob("*.py")
    assert any(f'"{path.stem}"' in module.read_text() for module in modules)


def test_every_fragment_is_included_and_no_script_is_called_like_one() -> None:
    included = {name for path in FILES for name in INCLUDE.findall(path.read_text())}
    assert included == {path.stem for path in FRAGMENTS}
    assert not included & {path.stem for path in SCRIPTS}


def test_nothing_but_the_fragment_compares_epochs() -> None:
    assert [shown(path) for path in FILES if "FENCED" in path.read_text()] == ["redis/lua/fence.lua"]


def test_fragments_are_included_where_they_stand_and_may_include_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scripted" / "lua"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "whole.lua").write_text(
        "#!lua flags=no-writes\n-- KEYS\nif a then\n    -- include: own\nend\nreturn 1\n"
    )
    (folder / "own.lua").write_text("-- include: now\n-- include: fence\nlocal own\n")
    (folder / "fence.lua").write_text("local its_fence\n")
    (folder / "lacking.lua").write_text("-- include: absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    now = (ROOT / "services/redis/lua/now.lua").read_text()
    assert script_text("scripted", "whole") == (
        f"#!lua flags=no-writes\n-- KEYS\nif a then\n{now}local its_fence\nlocal own\nend\nreturn 1\n"
    ), "the package's own fragment comes before a shared one of that name"
    for name in ("lacking", "absent"):
        with pytest.raises(FileNotFoundError, match=r"absent\.lua"):
            script_text("scripted", name)
    sys.modules.pop("scripted")


# --- fencing


def read(redis: Redis, run_id: str, epoch: int) -> None:
    reader = StreamReader(redis, RunKeys(run_id), unacked_bytes=None)
    reader.begin("0-0")
    reader.read(epoch, 1, block_ms=0)


WRITES: dict[str, Callable[[Redis, str, int], Any]] = {
    "replay": read,
    "actuators": lambda redis, run_id, epoch: ActuatorPublisher(redis, run_id, epoch).publish_version(1, 0),
    "status": lambda redis, run_id, epoch: update_status(redis, run_id, step=3, epoch=epoch),
    "records": lambda redis, run_id, epoch: RedisRecords(redis, run_id, epoch, first_step=0),
    "target": lambda redis, run_id, epoch: mark_applied(redis, run_id, generation=1, step=3, epoch=epoch),
    "starting entropy": lambda redis, run_id, epoch: record_starting_entropy(redis, run_id, 0.5, epoch),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_older_incarnation_is_refused_by_every_protocol_and_writes_nothing(
    redis: Redis, run_id: str, write: Callable[[Redis, str, int], Any]
) -> None:
    initialise_entropy_target(redis, run_id)
    for _ in range(2):
        ReplayConsumer(redis, run_id, max_deliveries=3).open()
    before = set(redis.scan_iter(match=f"scope:{{{run_id}}}:*"))
    for epoch in (1, 3):
        with pytest.raises(FencedError, match=f"epoch {epoch} may not write: epoch 2 is in force") as caught:
            write(redis, run_id, epoch)
        assert (caught.value.epoch, caught.value.current) == (epoch, 2)
    assert set(redis.scan_iter(match=f"scope:{{{run_id}}}:*")) == before
    write(redis, run_id, 2)


def test_the_driver_writes_the_status_whatever_incarnation_is_the_newest(redis: Redis, run_id: str) -> None:
    ReplayConsumer(redis, run_id, max_deliveries=3).open()
    update_status(redis, run_id, phase="running")
    assert redis.hget(RunKeys(run_id).status, "phase") == b"running"


def test_an_error_that_is_not_the_fences_stays_what_it_is(redis: Redis, run_id: str) -> None:
    assert fenced_error(ResponseError("WRONGTYPE Operation against a key"), 1) is None
    failing = redis.register_script("return redis.error_reply('LOST entry')")
    with pytest.raises(ResponseError, match="LOST entry") as caught:
        call_fenced(failing, RunKeys(run_id).fence, 1)
    assert caught.value.__cause__ is None
