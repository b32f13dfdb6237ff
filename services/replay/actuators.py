"""The mixes of a curriculum on their way from the learner, which decides them, to the generators."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from redis.asyncio import Redis

from services.redis.keys import RunKeys
from trainer.rollouts.curriculum import StepMix


def encode_mixes(mixes: Mapping[int, StepMix]) -> list[str | int]:
    """Fields and values for the run's hash of mixes."""
    return [part for step, mix in mixes.items() for part in (step, msgspec.json.encode(mix).decode())]


async def read_mix(redis: Redis, run_id: str, step: int) -> StepMix:
    """The mix of a learner step. Raises RuntimeError where the learner has not decided it."""
    found = await redis.hget(RunKeys(run_id).curriculum, str(step))  # pyright: ignore[reportGeneralTypeIssues]
    if found is None:
        raise RuntimeError(f"learner step {step} of run {run_id} was leased before its mixture was decided")
    return msgspec.json.decode(found, type=StepMix)
