"""What a resumption needs, checked as soon as Redis is there: a whole checkpoint, and the queue that belongs to it."""

from __future__ import annotations

from typing import cast

from redis import Redis

from services.driver.run_directory import RunDirectory
from services.keys import RunKeys
from trainer.checkpoint import CheckpointStore, queue_is_gone, read_state


def check_recoverable(directory: RunDirectory, redis: Redis) -> None:
    """Raises ScopeError when every checkpoint is damaged, or Redis has lost the run's queue; nothing is changed."""
    checkpoint = CheckpointStore(directory.path / "checkpoints", directory.config.checkpoint.keep).newest()
    if checkpoint is None:
        return
    state = read_state(checkpoint)
    epoch = int(cast("bytes | None", redis.get(RunKeys(directory.run_id).fence)) or 0)
    if epoch < state.lineage:
        raise queue_is_gone(state, epoch)
