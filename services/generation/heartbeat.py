"""A generator's heartbeat: its state, policy version and counters in Redis."""

from __future__ import annotations

import asyncio
import os

from services.generation.counters import GeneratorWork
from services.generation.loaded_weights import LoadedWeights
from services.generation.spec import GeneratorSpec
from services.run.heartbeats import beat
from trainer.rollouts.trajectory import PolicyVersion

BEAT_SECONDS = 1.0


class GeneratorHeartbeat:
    """Writes the heartbeat of one generator, through its own Redis client, on another thread."""

    def __init__(self, spec: GeneratorSpec, work: GeneratorWork, weights: LoadedWeights) -> None:
        self._spec, self._work, self._weights = spec, work, weights
        self._redis = spec.redis.sync()

    async def beat(self, state: str, in_flight: int) -> None:
        """Write it. in_flight: groups that the generator works on."""
        version = self._weights.version or PolicyVersion(-1, 0)
        document = {
            "role": self._spec.role,
            "state": state,
            "process_id": os.getpid(),
            "lineage": version.lineage,
            "step": version.step,
            "loads": self._weights.loads,
            "in_flight": in_flight,
            "restarts": self._spec.restarts,
            **self._work.counters(),
        }
        await asyncio.to_thread(beat, self._redis, self._spec.run_id, self._spec.generator_id, document)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
