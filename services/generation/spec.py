"""What a generator is told when it begins."""

from __future__ import annotations

from dataclasses import dataclass

from services.redis.access import RedisAccess
from trainer.config import RunConfig
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything one generator needs; crosses to its process."""

    run_id: str
    role: Role
    index: int
    config: RunConfig
    model_dir: str
    redis: RedisAccess
    version: PolicyVersion | None
    """what `model_dir` holds, or None when the learner must publish before the first rollout"""
    restarts: int = 0
    ledger: str | None = None
    """folder for the groups that it offers, or None to keep none"""

    @property
    def generator_id(self) -> str:
        """Unique within the run; also the Ray actor's name."""
        return f"{self.role}-generator-{self.index}"
