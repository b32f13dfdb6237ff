"""The checkpoint that a learner incarnation continues from, in a form that its ranks can load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.checkpoint.store import (
    ENGINE_TAG,
    CheckpointStore,
    LearnerState,
    disk_full,
    queue_is_gone,
    read_state,
)
from trainer.checkpoint.universal import to_universal
from trainer.config import LearnerConfig


class FoundCheckpoint(NamedTuple):
    """A checkpoint of the run and its state."""

    folder: Path
    state: LearnerState


@dataclass(frozen=True)
class Restored:
    """What every rank loads. folder: holds the engine's files under `ENGINE_TAG`; None: the starting policy."""

    step: int
    folder: Path | None
    universal: bool = False
    """folder is a converted copy, to be removed once every rank has loaded it"""


def find_checkpoint(store: CheckpointStore, epoch: int) -> FoundCheckpoint | None:
    """The newest checkpoint that verifies; None before the first. epoch: of this incarnation, which has been opened.

    Raises ScopeError when every checkpoint is damaged, and when the newest was made by this epoch or a later one: then
    Redis has lost the run's queue.
    """
    folder = store.newest()
    if folder is None:
        return None
    state = read_state(folder)
    if state.lineage >= epoch:
        raise queue_is_gone(state, epoch)
    return FoundCheckpoint(folder, state)


def loadable(
    found: FoundCheckpoint | None, store: CheckpointStore, config: LearnerConfig, epoch: int
) -> Restored:
    """What to load: the checkpoint itself, or a copy converted to this number of ranks and ZeRO stage.

    Raises ScopeError when the disk is too full for the copy.
    """
    if found is None:
        return Restored(0, None)
    state = found.state
    if (state.workers, state.zero_stage) == (config.workers, config.zero_stage):
        return Restored(state.step, found.folder)
    folder = store.writing(state.step, epoch)
    try:
        to_universal(found.folder / ENGINE_TAG, folder / ENGINE_TAG)
    except (OSError, RuntimeError) as error:
        raise disk_full(folder, error) or error from error
    return Restored(state.step, folder, universal=True)
