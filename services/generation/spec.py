"""The specification that a generator starts from."""

from __future__ import annotations

from dataclasses import dataclass

from services.redis.access import RedisAccess
from services.replay.producer import Lease
from trainer.config import RunConfig
from trainer.roles import Role
from trainer.rollouts.trajectory import PolicyVersion


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything one generator needs. Pickled into its process."""

    run_id: str
    role: Role
    index: int
    config: RunConfig
    model_dir: str
    redis: RedisAccess
    version: PolicyVersion | None
    """the policy version in `model_dir`, or None when the learner must publish before the first rollout"""
    restarts: int = 0
    ledger: str | None = None
    """folder in which the generator records the groups it adds, or None to record none"""

    @property
    def generator_id(self) -> str:
        """Unique within the run; also the Ray actor's name."""
        return f"{self.role}-generator-{self.index}"

    @property
    def samples(self) -> int:
        """Rollouts in a group of this role."""
        rollout = self.config.rollout
        return rollout.base_samples if self.role == "base" else rollout.adaptive_samples

    def temperature(self, lease: Lease) -> float:
        """Sampling temperature of this role under the actuators of `lease`."""
        return self.config.rollout.base_temperature if self.role == "base" else lease.temperature
