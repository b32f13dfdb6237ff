"""What the learner publishes for generators beside the weights: the newest policy version, actuators and mixes.

Generators read policy version and actuators with each lease; a mix is the curriculum's choice for one learner step.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from services.redis.fencing import call_fenced
from services.redis.keys import RunKeys
from services.redis.scripts import script_text
from trainer.rollouts.curriculum import StepMix

MIXES_KEPT = 64
"""learner steps before the oldest one that may be sampled whose mixes stay readable"""


class ActuatorPublisher:
    """The learner's side, for the incarnation of `epoch`.

    Every method raises FencedError, and writes nothing, when a newer incarnation exists.
    """

    def __init__(self, redis: Redis, run_id: str, epoch: int) -> None:
        self._redis, self._keys, self._epoch = redis, RunKeys(run_id), epoch
        self._script = redis.register_script(script_text("services.replay", "set_fields"))

    def publish_version(self, lineage: int, step: int) -> None:
        """Record the newest published policy version."""
        self._set(self._keys.published, {"lineage": lineage, "step": step})

    def set_actuators(self, temperature: float, alpha: float, step: int, generation: int) -> None:
        """Set the actuators of rollouts that start from now on.

        temperature: of adaptive rollouts; alpha: weight of the auxiliary loss; step: the learner step from which they
        hold; generation: of the entropy target.
        """
        fields = {
            "temperature": temperature,
            "alpha": alpha,
            "step": step,
            "entropy_target_generation": generation,
        }
        self._set(self._keys.actuators, fields)

    def set_mixes(self, mixes: Mapping[int, StepMix]) -> None:
        """Set the mixes of the learner steps that may be sampled, by step; deletes those `MIXES_KEPT` steps older."""
        fields = {str(step): msgspec.json.encode(mix).decode() for step, mix in mixes.items()}
        self._set(self._keys.curriculum, fields)
        old = min(mixes) - MIXES_KEPT
        self._redis.hdel(self._keys.curriculum, *(str(step) for step in range(old - len(mixes), old)))

    def _set(self, key: str, fields: Mapping[str, str | int | float]) -> None:
        flat = [part for pair in fields.items() for part in pair]
        call_fenced(self._script, self._keys.fence, self._epoch, [key], flat)


async def read_mix(redis: AsyncRedis, run_id: str, step: int) -> StepMix:
    """The mix of a learner step. Raises RuntimeError where the learner has not decided it."""
    found = await redis.hget(RunKeys(run_id).curriculum, str(step))  # pyright: ignore[reportGeneralTypeIssues]
    if found is None:
        raise RuntimeError(f"learner step {step} of run {run_id} was leased before its mixture was decided")
    return msgspec.json.decode(found, type=StepMix)
