"""A generator whose engine outlives it, with a run's queue and a learner that publishes and reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from services.generation.generator import Generator
from services.generation.spec import GeneratorSpec
from services.inference.engine import SamplingEngine
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.replay.stats import queue_stats
from tests.support.generation.engines import Engines
from tests.support.generation.tiny import LearnerView, tiny_config
from trainer.config import RunConfig
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, decode_group

PROMPTS, STALENESS, STEPS = 6, 1, 4


class OnSharedEngine(Generator):
    """A generator whose engine outlives it."""

    def __init__(self, spec: GeneratorSpec, engine: SamplingEngine) -> None:
        super().__init__(spec)
        self._shared = engine

    async def start(self) -> int:
        return await self._begin_with(self._shared)

    async def close(self) -> None:
        await self._redis.aclose()
        self._heartbeat.close()


class Stage:
    """One run's queue, with a learner that leases, publishes actuators and reads, and does nothing else."""

    def __init__(
        self, engines: Engines, access: RedisAccess, redis: Redis, run_id: str, model_dir: Path
    ) -> None:
        self.engines, self.access, self.redis, self.run_id = engines, access, redis, run_id
        self.model_dir, self.keys = model_dir, RunKeys(run_id)
        self.consumer = ReplayConsumer(redis, run_id, max_deliveries=3)
        self.publisher = ActuatorPublisher(redis, run_id, self.consumer.open())
        self.learner = LearnerView(model_dir)

    def config(self, **blocks: dict[str, object]) -> RunConfig:
        rollout = {
            "base_temperature": 0.7,
            "prompts_per_step": PROMPTS,
            "base_samples": 4,
            "adaptive_samples": 4,
        }
        pipeline = {"max_staleness": STALENESS}
        return tiny_config(
            **blocks
            | {
                "rollout": rollout | blocks.get("rollout", {}),
                "pipeline": pipeline | blocks.get("pipeline", {}),
            }
        )

    def act(
        self,
        role: Role,
        scene: Callable[[OnSharedEngine], Coroutine[Any, Any, None]],
        *,
        kind: type[OnSharedEngine] = OnSharedEngine,
        **blocks: Any,
    ) -> None:
        """Run `scene` with a started generator on the event loop of the engine of `role`, then shut it down."""
        engine = self.engines.reset(role, self.learner)
        config = self.config(**blocks).model_copy(update={"steps": STEPS})

        async def play() -> None:
            spec = GeneratorSpec(
                self.run_id, role, 0, config, str(self.model_dir), self.access, engine.version
            )
            generator = kind(spec, engine)
            await generator.start()
            try:
                await scene(generator)
            finally:
                await generator.close()

        self.engines.run(role, play())

    def leased(self, role: Role) -> int:
        """The number of ordinals leased so far."""
        return int(self.redis.get(self.keys.cursor(role)) or 0)  # pyright: ignore[reportArgumentType]

    def produced(self) -> int:
        return queue_stats(self.redis, self.run_id).produced

    def groups(self) -> list[Group]:
        """All groups in the queue that were not read before."""
        return [decode_group(e.data, size_cap=1 << 24) for e in self.consumer.read(1000, 100)]

    async def until(self, what: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(what):
            assert time.monotonic() < deadline, "the condition did not become true in time"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(generator: Generator) -> AsyncIterator[asyncio.Task[None]]:
    """Run `generator.run()` inside the context and stop it at the end."""
    task = asyncio.create_task(generator.run())
    try:
        yield task
    finally:
        await generator.stop()
        await asyncio.wait_for(task, 10)
