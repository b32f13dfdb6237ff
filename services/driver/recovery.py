"""Checks that a run can be resumed: it needs a complete checkpoint, and the queue in Redis that belongs to it."""

from __future__ import annotations

from typing import cast

from redis import Redis

from services.redis.keys import RunKeys
from services.run.directory import RunDirectory
from trainer.checkpoint.mirror import CheckpointMirror
from trainer.checkpoint.store import CheckpointStore, queue_is_gone, read_state
from trainer.errors import ScopeError


def checkpoint_store(directory: RunDirectory) -> CheckpointStore:
    """The run's checkpoints."""
    return CheckpointStore(directory.path / "checkpoints", directory.config.checkpoint.keep)


def checkpoint_mirror(directory: RunDirectory) -> CheckpointMirror | None:
    """The mirror of the run's checkpoints, or None when none is configured."""
    config = directory.config.checkpoint
    return None if config.mirror is None else CheckpointMirror(config.mirror, directory.run_id, config.keep)


def fetch_checkpoint(directory: RunDirectory) -> str | None:
    """Fetch the newest checkpoint from `checkpoint.mirror` if the run directory has none; returns a message about it.

    Raises ScopeError when the mirror does not answer, or when all of its checkpoints are damaged.
    """
    store, mirror = checkpoint_store(directory), checkpoint_mirror(directory)
    if mirror is None or _has_one(store) or (fetched := mirror.restore(store)) is None:
        return None
    return f"{fetched.name} was brought in from checkpoint.mirror={directory.config.checkpoint.mirror!r}"


def check_recoverable(directory: RunDirectory, redis: Redis) -> list[str]:
    """Check that the run can continue from a checkpoint; returns a note for each damaged one that is passed over.

    Raises ScopeError when every checkpoint is damaged, or Redis has lost the run's queue. Changes nothing.
    """
    damaged: list[str] = []
    checkpoint = checkpoint_store(directory).newest(
        lambda path, fault: damaged.append(f"the checkpoint {path.name} is damaged: {fault}")
    )
    if checkpoint is None:
        return []
    state = read_state(checkpoint)
    epoch = int(cast("bytes | None", redis.get(RunKeys(directory.run_id).fence)) or 0)
    if epoch < state.lineage:
        raise queue_is_gone(state, epoch)
    return [f"{note}; the run continues from {checkpoint.name} instead" for note in damaged]


def _has_one(store: CheckpointStore) -> bool:
    try:
        return store.newest() is not None
    except ScopeError:
        # All of them are damaged; the mirror may have an intact one.
        return False
