"""A learner that was frozen while a successor took over changes nothing after it thaws."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.records.ledger import Applied, read_history, surviving
from services.records.sinks import read_records
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from tests.support.runs.checkpoints import state
from tests.support.runs.frozen_learner import learn_until_fenced, step_once
from tests.support.runs.incarnations import Incarnations
from trainer.checkpoint.store import CheckpointStore, read_state, verifies


def commit(store: CheckpointStore, step: int, lineage: int) -> Path:
    (store.writing(step, lineage) / "weights").write_bytes(bytes([lineage]) * 100)
    return store.commit(state(step, lineage=lineage), lambda: None)


@pytest.mark.parametrize("passed_over", [False, True], ids=["", "over a damaged one"])
@pytest.mark.parametrize(
    "moment", ["writing", "before the rename", "after the rename", "before the removal of old ones"]
)
def test_a_checkpoint_of_a_thawed_learner_replaces_and_removes_nothing_of_its_successors(
    tmp_path: Path, moment: str, passed_over: bool
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    commit(store, 10, lineage=1)
    if passed_over:
        (commit(store, 20, lineage=1) / "weights").write_bytes(b"damaged")
    (store.writing(20, lineage=1) / "weights").write_bytes(b"old")
    calls = 0

    def successor() -> None:
        store.sweep()
        for step in (20, 30):
            commit(store, step, lineage=2)

    def check() -> None:
        """The learner freezes in a check, or right after it, and thaws after its successor has made two checkpoints."""
        nonlocal calls
        calls += 1
        if (moment, calls) in (
            ("before the rename", 1),
            ("after the rename", 2),
            ("before the removal of old ones", 2),
        ):
            successor()
        if calls == 2 and "removal" not in moment:
            raise FencedError(1, 2)

    if moment == "writing":
        successor()
    with nullcontext() if "removal" in moment else pytest.raises((FencedError, OSError)):
        store.commit(state(20, lineage=1), check)
    for step in (20, 30):
        checkpoint = tmp_path / f"step-{step:08d}"
        assert verifies(checkpoint)
        assert read_state(checkpoint).lineage == 2


def test_a_learner_fenced_off_right_after_its_rename_leaves_the_checkpoint_to_the_successor_that_began_from_it(
    tmp_path: Path,
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    commit(store, 10, lineage=1)
    (store.writing(20, lineage=1) / "weights").write_bytes(b"last")
    began: list[Path | None] = []

    def check() -> None:
        if store.newest_step() == 20:
            store.sweep()
            began.append(store.newest())
            raise FencedError(1, 2)

    with pytest.raises(FencedError):
        store.commit(state(20, lineage=1), check)
    assert began == [store.newest()] == [tmp_path / "step-00000020"]


class Frozen:
    """Forks learners that a test can freeze at any moment."""

    def __init__(self, incarnations: Incarnations) -> None:
        self._incarnations = incarnations
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.support.runs.frozen_learner"])
        self.process: Any = None

    def start(self) -> None:
        self.pipe, theirs = self._context.Pipe()
        self.process = self._context.Process(
            target=learn_until_fenced, args=(self._incarnations.spec, theirs), daemon=True
        )
        self.process.start()
        assert self.pipe.poll(120), "the learner took no step"

    def steps_done(self) -> int:
        done = self.pipe.recv()
        while self.pipe.poll():
            done = self.pipe.recv()
        assert isinstance(done, int), done
        return done

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> tuple[bool, str]:
        """The outcome: whether it was fenced, and the error."""
        while True:
            assert self.pipe.poll(60), "the thawed learner continues"
            told = self.pipe.recv()
            if isinstance(told, tuple):
                self.process.join()
                return told


@pytest.fixture
def frozen(redis_access: RedisAccess, run_id: str, tmp_path: Path) -> Iterator[Frozen]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id, groups=120)
    frozen = Frozen(incarnations)
    yield frozen
    if frozen.process is not None:
        frozen.process.kill()
    incarnations.close()


def everything(redis: Redis, run_id: str, run_dir: Path) -> dict[str, str]:
    """Digests of every key of the run, every file that readers of the run see, and the relevant part of both logs.

    A line that was checked before the freeze may be written after it, but into a dead lineage, which readers ignore.
    """
    logs = ("steps.jsonl", "applied-")
    found = {
        str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run_dir.rglob("*")
        if path.is_file()
        and ".writing-" not in str(path)
        and "tensorboard" not in str(path)
        and not path.name.startswith(logs)
    }
    found["records"] = repr(read_records(run_dir / "steps.jsonl"))
    found["applied"] = repr(surviving(read_history(run_dir)))
    keys: Any = redis.scan_iter(f"scope:{{{run_id}}}:*")
    for key in keys:
        found[key.decode()] = hashlib.sha256(str(redis.dump(key)).encode()).hexdigest()
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_learner_frozen_at_any_moment_changes_nothing_when_it_thaws(
    frozen: Frozen, run_id: str, tmp_path: Path
) -> None:
    incarnations, chance = frozen._incarnations, random.Random(5)
    run_dir = tmp_path / run_id
    for _ in range(5):
        frozen.start()
        time.sleep(chance.uniform(0, 0.3))
        frozen.signal(signal.SIGSTOP)
        done = frozen.steps_done()
        successor = incarnations.begin()
        assert incarnations.step in (done, done + 1)
        for _ in range(2):
            step_once(successor, incarnations.step, run_dir)
            incarnations.step += 1
        successor.end()
        before = everything(incarnations.queue.redis, run_id, run_dir)
        frozen.signal(signal.SIGCONT)
        fenced, error = frozen.end()
        assert fenced or "FileNotFoundError" in error, error
        assert everything(incarnations.queue.redis, run_id, run_dir) == before
    lineages = [record.lineage for record in read_records(run_dir / "steps.jsonl")]
    assert lineages == sorted(lineages)
    order = [(event.lineage, event.step) for event in read_history(run_dir) if isinstance(event, Applied)]
    assert order == sorted(set(order))
