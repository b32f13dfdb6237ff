"""The specification of a learner incarnation, sent to the process of every rank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.redis.access import RedisAccess
from trainer.checkpoint.mirror import CheckpointMirror
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig


@dataclass(frozen=True)
class LearnerSpec:
    """What a learner starts with. It continues from the newest checkpoint of the run, or else from `model_dir`."""

    run_id: str
    config: RunConfig
    config_hash: str
    model_dir: str
    run_dir: str
    redis: RedisAccess
    generator_ids: tuple[str, ...]
    restarts: int = 0
    """how often the learner has been restarted since the driver started"""

    @property
    def checkpoints(self) -> CheckpointStore:
        """The store of the run's checkpoints."""
        return CheckpointStore(Path(self.run_dir) / "checkpoints", self.config.checkpoint.keep)

    @property
    def mirror(self) -> CheckpointMirror | None:
        """The mirror of the run's checkpoints; None where `checkpoint.mirror` is unset."""
        config = self.config.checkpoint
        return None if config.mirror is None else CheckpointMirror(config.mirror, self.run_id, config.keep)
