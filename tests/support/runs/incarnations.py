"""Learner incarnations of rank 0 over a real queue, without tensors or Ray."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from services.learner.rank_zero import RankZero
from services.learner.spec import LearnerSpec
from services.learner.start_rank_zero import start_rank_zero
from services.redis.access import RedisAccess
from services.redis.fencing import FencedError
from services.redis.keys import CONSUMER_GROUP
from services.run.state import RunSpec
from tests.support.runs.registered_run import register_run
from tests.support.replay_harness import Queue, make_group
from trainer.config import RunConfig
from trainer.learner.step_metrics import StepMetrics
from trainer.rollouts.trajectory import encode_group


class Crash(BaseException):
    """Stands for the death of the process at this point."""


STEP_GROUPS = 2
"""One prompt per step, with both roles."""

MIXTURE = {
    "name": "mixture",
    "mixture": ({"weight": 1.0}, {"weight": 2.0}),
    "curriculum": {"kind": "pass_rate"},
}


class Incarnations:
    """Rank 0 of a learner over a real queue that a test can restart, without tensors or Ray."""

    def __init__(
        self, access: RedisAccess, run_id: str, run_dir: Path, *, groups: int = 20, curriculum: bool = False
    ) -> None:
        self.config = RunConfig.model_validate(
            {
                "rollout": {"prompts_per_step": 1, "base_samples": 2, "adaptive_samples": 2},
                "pipeline": {"max_staleness": 64, "batch_timeout_seconds": 10},
                "loss": {"minibatches": 1},
                "checkpoint": {"keep": 3},
                "rollout_samples": {"per_step": 0},
                "regularizer": {"kind": "adaptive_coefficient", "adaptive_coefficient": {"delta": 0.1}},
                **({"task": MIXTURE} if curriculum else {}),
            }
        )
        self.queue = Queue(access, run_id, capacity=2 * groups)
        self._access, self._run_id, self._run_dir = access, run_id, run_dir
        run_dir.mkdir()
        spec = RunSpec(
            run_id=run_id,
            config=self.config.model_dump(mode="json"),
            config_hash="h",
            started_at=0.0,
            versions={},
        )
        register_run(self.queue.redis, run_id, spec)
        for role in ("base", "adaptive"):
            for ordinal in self.queue.lease(groups, role=role).ordinals:
                group = msgspec.structs.replace(
                    make_group(role, ordinal), run_id=run_id, problem_id=f"{ordinal % 2}:{ordinal}"
                )
                self.queue.add(ordinal, role=role, data=encode_group(group, size_cap=1 << 20))
        self._open: list[RankZero] = []
        self.step = 0

    @property
    def spec(self) -> LearnerSpec:
        """The spec that every incarnation starts from."""
        return LearnerSpec(
            run_id=self._run_id,
            config=self.config,
            config_hash="h",
            model_dir="",
            run_dir=str(self._run_dir),
            redis=self._access,
            generator_ids=(),
        )

    def begin(self) -> RankZero:
        """A learner that continues from the newest checkpoint, as the loop does."""
        rank_zero = start_rank_zero(self.spec)
        self.step = rank_zero.first_step
        self._open.append(rank_zero)
        return rank_zero

    def learn(self, rank_zero: RankZero, steps: int) -> None:
        """Consume the groups of `steps` steps."""
        for _ in range(steps):
            order, _ = rank_zero.next_order(self.step)
            assert order.kind == "step"
            self.step += 1

    def checkpoint(self, rank_zero: RankZero) -> Path:
        """Commit a checkpoint."""
        folder = rank_zero.open_checkpoint(self.step)
        (folder / "weights").write_bytes(b"w")
        rank_zero.begin_checkpoint(self.step)()
        rank_zero.settle()
        return self._run_dir / "checkpoints" / f"step-{self.step:08d}"

    @property
    def unacknowledged(self) -> set[str]:
        """Ids of entries that Redis would redeliver."""
        pending: Any = self.queue.redis.xpending_range(
            self.queue.keys.trajectories, CONSUMER_GROUP, min="-", max="+", count=1000
        )
        return {item["message_id"].decode() for item in pending}

    def close(self) -> None:
        for rank_zero in self._open:
            # The newest alone may say that it has ended.
            with contextlib.suppress(FencedError):
                rank_zero.end()
        self.queue.close()


def measured(entropy: float) -> StepMetrics:
    """Measurements of a step; only the entropy matters here."""
    values: dict[str, Any] = {field.name: 0 for field in fields(StepMetrics)}
    values["entropy"] = entropy
    return StepMetrics(**values)
