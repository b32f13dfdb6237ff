"""What a learner incarnation is started with; crosses to every rank's process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.redis.access import RedisAccess
from trainer.checkpoint.mirror import CheckpointMirror
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig


@dataclass(frozen=True)
class LearnerSpec:
    """Start of a learner. With a checkpoint in the run directory it continues from there, else from `model_dir`."""

    run_id: str
    config: RunConfig
    config_hash: str
    model_dir: str
    run_dir: str
    redis: RedisAccess
    generator_ids: tuple[str, ...]
    restarts: int = 0
    """of the learner, since the driver started"""

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(Path(self.run_dir) / "checkpoints", self.config.checkpoint.keep)

    @property
    def mirror(self) -> CheckpointMirror | None:
        """Where checkpoints are kept once more."""
        config = self.config.checkpoint
        return None if config.mirror is None else CheckpointMirror(config.mirror, self.run_id, config.keep)
