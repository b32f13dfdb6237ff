"""Background writing: the snapshot is what gets written, and a failure stops the run under its own name."""

from __future__ import annotations

import copy
import errno
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from services.driver.learner_failure import learner_failure
from services.learner.checkpoint_writer import CheckpointWriter
from trainer.checkpoint.snapshot import Snapshot, host_copy
from trainer.errors import ScopeError


def alone(mine: Exception | None) -> list[Exception | None]:
    """The collective exchange of a single rank."""
    return [mine]


def nothing() -> None:
    """Do nothing."""


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_learner_goes_on_while_a_checkpoint_is_written_and_waits_before_the_next(tmp_path: Path) -> None:
    release, done = threading.Event(), []
    writer = CheckpointWriter(alone)
    writer.begin(tmp_path, lambda: done.append("written") if release.wait(30) else None, nothing)
    assert done == []
    writer.check()
    threading.Timer(0.2, release.set).start()
    writer.begin(tmp_path, lambda: done.append("next"), lambda: done.append("committed"))
    assert done[0] == "written", "at most one checkpoint may be in flight"
    writer.wait()
    assert done == ["written", "next", "committed"]


@pytest.mark.parametrize("where", ["write", "commit"])
def test_a_full_disk_in_the_background_is_the_same_permanent_fault(tmp_path: Path, where: str) -> None:
    writer = CheckpointWriter(alone)
    writer.begin(
        tmp_path / "x",
        full_disk if where == "write" else nothing,
        full_disk if where == "commit" else nothing,
    )
    with pytest.raises(ScopeError, match="is full: no checkpoint can be written") as caught:
        writer.wait()
    assert learner_failure(caught.value).permanent
    with pytest.raises(ScopeError):
        writer.check()
    with pytest.raises(ScopeError):
        writer.begin(tmp_path, nothing, nothing)


def test_nothing_is_committed_where_another_rank_could_not_write(tmp_path: Path) -> None:
    committed = []
    other = ScopeError("the disk of rank 1 is full")
    writer = CheckpointWriter(lambda mine: [mine, other])
    writer.begin(tmp_path, nothing, lambda: committed.append(1))
    with pytest.raises(ScopeError, match="rank 1"):
        writer.wait()
    assert committed == []


def test_a_lost_connection_between_the_ranks_is_a_failure(tmp_path: Path) -> None:
    def lost(mine: Exception | None) -> list[Exception | None]:
        raise RuntimeError("connection closed by peer")

    writer = CheckpointWriter(lost)
    writer.begin(tmp_path, nothing, nothing)
    with pytest.raises(RuntimeError, match="closed by peer"):
        writer.wait()


def test_a_copy_shares_nothing_with_the_state_and_keeps_what_was_shared_within_it(tmp_path: Path) -> None:
    flat = torch.arange(12.0)
    state: OrderedDict[str, Any] = OrderedDict(
        flat=flat,
        view=flat[4:8].view(2, 2),
        transposed=torch.arange(6.0).view(2, 3).t(),
        low=torch.ones(3, dtype=torch.bfloat16),
        empty=torch.empty(0),
        nested=[{"step": torch.tensor(3.0)}, (torch.nn.Parameter(flat[:2]), "text")],
        betas={"betas": [0.9, 0.99]},
    )
    wanted = copy.deepcopy(state)
    copied = host_copy(state)
    flat.zero_()
    state["betas"]["betas"].append(1.0)
    copied["view"][0, 0] = -1
    assert copied["flat"][4] == -1
    copied["view"][0, 0] = wanted["flat"][4]
    Snapshot([(tmp_path / "state.pt", copied)]).write()
    read = torch.load(tmp_path / "state.pt", weights_only=False)
    for name in ("flat", "view", "transposed", "low", "empty"):
        assert torch.equal(read[name], wanted[name]), name
    assert read["nested"][0]["step"] == 3
    assert torch.equal(read["nested"][1][0], wanted["nested"][1][0])
    assert read["betas"] == {"betas": [0.9, 0.99]}
    assert read["view"].data_ptr() == read["flat"].data_ptr() + 16
