"""The checkpoint mirror: copies are atomic, whatever fails on the other side, and verified when fetched back."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from services.driver.recovery import checkpoint_mirror, fetch_checkpoint
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.run.directory import RunDirectory
from tests.support.runs.checkpoints import state, write
from tests.support.runs.incarnations import Incarnations
from trainer.checkpoint import mirror as module
from trainer.checkpoint.mirror import CheckpointMirror, check_writable
from trainer.checkpoint.store import Best, CheckpointStore, read_state, verifies
from trainer.config import CheckpointConfig, RunConfig
from trainer.errors import ScopeError


def allowed() -> None:
    """Permit the write: there is no newer learner."""


class Faulty(LocalFileSystem):
    """Local files over a faulty link: the operations fail for whose number `fails` returns True."""

    protocol = "faulty"
    cachable = False
    operations = 0
    fails: Callable[[int], bool] = staticmethod(lambda number: False)

    def _count(self) -> None:
        Faulty.operations += 1
        if Faulty.fails(Faulty.operations):
            raise ConnectionError("the link is down")

    def put_file(self, *arguments: Any, **options: Any) -> Any:
        self._count()
        return super().put_file(*arguments, **options)

    def get_file(self, *arguments: Any, **options: Any) -> Any:
        self._count()
        return super().get_file(*arguments, **options)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    monkeypatch.setattr(Faulty, "operations", 0)
    monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number: False))
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    return Faulty


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/mirror" if request.param == "file" else f"memory://mirror-{uuid.uuid4().hex}"


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "here", keep=2)


def elsewhere(tmp_path: Path) -> CheckpointStore:
    """The same run on a new machine."""
    shutil.rmtree(tmp_path / "there", ignore_errors=True)
    return CheckpointStore(tmp_path / "there", keep=2)


def names(url: str) -> list[str]:
    filesystem, path = fsspec.url_to_fs(url)
    return sorted(Path(entry).name for entry in filesystem.ls(f"{path}/run", detail=False))


def put(mirror: CheckpointMirror, store: CheckpointStore, step: int, *, lineage: int = 1) -> None:
    checkpoint = write(store, step, lineage=lineage)
    mirror.put(checkpoint, state(step, lineage=lineage), store.spared, allowed)


def test_the_newest_and_the_best_are_kept_there_and_the_newest_comes_back(
    url: str, store: CheckpointStore, tmp_path: Path
) -> None:
    check_writable(url)
    mirror = CheckpointMirror(url, "run", keep=2)
    put(mirror, store, 10)
    assert store.offer(Best(10, 1, 0.5))
    mirror.put_best(store)
    for step in (20, 30, 40):
        put(mirror, store, step)
    assert names(url) == ["best.json", "step-00000010-1", "step-00000030-1", "step-00000040-1"]
    there = elsewhere(tmp_path)
    restored = mirror.restore(there)
    assert restored == there.newest()
    assert restored is not None
    assert verifies(restored)
    assert read_state(restored) == state(40)
    assert there.best == Best(10, 1, 0.5)


def test_an_empty_mirror_gives_nothing(url: str, tmp_path: Path) -> None:
    assert CheckpointMirror(url, "run", keep=2).restore(elsewhere(tmp_path)) is None


def test_an_upload_that_ends_at_any_file_never_looks_whole(
    faulty: type[Faulty], store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"faulty://{tmp_path}/mirror"
    mirror = CheckpointMirror(url, "run", keep=2)
    put(mirror, store, 10)
    files = faulty.operations
    assert files == 4
    checkpoint = write(store, 20)
    for cut in range(1, files + 1):
        monkeypatch.setattr(Faulty, "operations", 0)
        monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number, cut=cut: number == cut))
        with pytest.raises(
            ScopeError, match=r"checkpoint\.mirror=.*did not take step-00000020/.*link is down"
        ):
            mirror.put(checkpoint, state(20), set(), allowed)
        restored = mirror.restore(elsewhere(tmp_path))
        assert restored is not None
        assert restored.name == "step-00000010"
    monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number: False))
    mirror.put(checkpoint, state(20), set(), allowed)
    restored = mirror.restore(elsewhere(tmp_path))
    assert restored is not None
    assert restored.name == "step-00000020"


def test_a_link_that_fails_now_and_then_is_tried_again(
    faulty: type[Faulty], store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number: number % 2 == 1))
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 30.0)
    mirror = CheckpointMirror(f"faulty://{tmp_path}/mirror", "run", keep=2)
    put(mirror, store, 10)
    restored = mirror.restore(elsewhere(tmp_path))
    assert restored is not None
    assert verifies(restored)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_one_is_passed_over(damage: str, store: CheckpointStore, tmp_path: Path) -> None:
    mirror = CheckpointMirror(f"file://{tmp_path}/mirror", "run", keep=2)
    put(mirror, store, 10)
    put(mirror, store, 20)
    folder = tmp_path / "mirror" / "run" / "step-00000020-1"
    victim = folder / "engine" / "rank-0.pt"
    match damage:
        case "flip":
            victim.write_bytes(b"x" + victim.read_bytes()[1:])
        case "truncate":
            victim.write_bytes(b"")
        case "delete":
            victim.unlink()
        case _:
            (folder / "manifest.json").write_text("{")
    there = elsewhere(tmp_path)
    restored = mirror.restore(there)
    assert restored is not None
    assert restored.name == "step-00000010"
    (tmp_path / "mirror" / "run" / "step-00000010-1" / "state.json").write_text("{}")
    with pytest.raises(ScopeError, match=r"None of the 2 checkpoints in checkpoint\.mirror"):
        mirror.restore(elsewhere(tmp_path))


def test_the_surviving_lineage_is_the_newest_whatever_its_step(
    store: CheckpointStore, tmp_path: Path
) -> None:
    mirror = CheckpointMirror(f"file://{tmp_path}/mirror", "run", keep=2)
    put(mirror, store, 30, lineage=1)
    put(mirror, store, 20, lineage=2)
    restored = mirror.restore(elsewhere(tmp_path))
    assert restored is not None
    assert read_state(restored) == state(20, lineage=2)


def test_a_learner_that_was_replaced_completes_nothing_there(store: CheckpointStore, tmp_path: Path) -> None:
    mirror = CheckpointMirror(f"file://{tmp_path}/mirror", "run", keep=2)
    checkpoint, calls = write(store, 10), 0

    def fenced_from_the_third() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise FencedError(1, 2)

    with pytest.raises(FencedError):
        mirror.put(checkpoint, state(10), set(), fenced_from_the_third)
    assert mirror.restore(elsewhere(tmp_path)) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("oci://bucket/folder", "cannot be used: .*ocifs"),
        ("nowhere://bucket", "cannot be used: .*nowhere"),
        ("/mnt/share", "cannot be used: it is not a URL"),
        ("file:///proc/none", "cannot be written"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_the_start(url: str, reason: str) -> None:
    with pytest.raises(ScopeError, match=rf"checkpoint\.mirror={url!r} {reason}"):
        check_writable(url)


def test_a_resumption_on_a_new_machine_begins_with_what_is_in_the_mirror(
    store: CheckpointStore, tmp_path: Path
) -> None:
    config = RunConfig(checkpoint=CheckpointConfig(mirror=f"file://{tmp_path}/mirror"))
    new = RunDirectory(tmp_path / "new" / "run", "run", config, resumed=True)
    new.path.mkdir(parents=True)
    mirror = checkpoint_mirror(new)
    assert mirror is not None
    assert fetch_checkpoint(new) is None
    put(mirror, store, 10)
    assert "step-00000010 was brought in" in (fetch_checkpoint(new) or "")
    put(mirror, store, 20)
    assert fetch_checkpoint(new) is None, "the run directory has a whole checkpoint"
    (new.path / "checkpoints" / "step-00000010" / "state.json").write_text("{}")
    assert "step-00000020 was brought in" in (fetch_checkpoint(new) or ""), (
        "the run directory has no whole checkpoint"
    )


@pytest.fixture
def incarnations(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def test_nothing_is_acknowledged_before_the_mirror_has_it_and_a_new_machine_applies_everything_once(
    incarnations: Incarnations, faulty: type[Faulty], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = incarnations.config.checkpoint.model_copy(update={"mirror": f"faulty://{tmp_path}/mirror"})
    incarnations.config = incarnations.config.model_copy(update={"checkpoint": checkpoint})
    first = incarnations.begin()
    incarnations.learn(first, 2)
    incarnations.checkpoint(first)
    incarnations.learn(first, 2)
    monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number: True))
    with pytest.raises(ScopeError, match="did not take"):
        incarnations.checkpoint(first)
    assert incarnations.queue.stats.acknowledged == 0
    monkeypatch.setattr(Faulty, "fails", staticmethod(lambda number: False))
    directory = RunDirectory(
        Path(incarnations.spec.run_dir), incarnations.spec.run_id, incarnations.config, True
    )
    shutil.rmtree(directory.path / "checkpoints")
    assert "step-00000002 was brought in" in (fetch_checkpoint(directory) or "")
    second = incarnations.begin()
    assert incarnations.step == 2
    incarnations.learn(second, 4)
    groups = sorted(group for _, group in read_state(incarnations.checkpoint(second)).consumed)
    assert groups == sorted(f"{role}:{o}:0" for role in ("base", "adaptive") for o in range(6))
