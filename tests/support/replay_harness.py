"""Helpers of the replay tests: groups, a client that loses replies, and both ends of a queue without an event loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.replay.actuators import ActuatorPublisher
from services.replay.consumer import ReplayConsumer
from services.replay.dead_letters import ReplayAdmin
from services.replay.producer import AddOutcome, Finished, Lease, ReplayProducer
from services.replay.stats import QueueStats, queue_stats
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, Trajectory, VersionSpan, encode_group

SIZE_CAP = 1 << 20
T = TypeVar("T")


def make_group(role: Role = "base", ordinal: int = 0, attempt: int = 0, tokens: int = 5) -> Group:
    """A valid group of two rollouts."""
    rollout = Trajectory(
        group_index=0,
        response_tokens=np.arange(tokens, dtype="<i4").tobytes(),
        behaviour_logprobs=np.full(tokens, -0.5, "<f4").tobytes(),
        loss_mask=np.ones(tokens, "u1").tobytes(),
        logprob_temperature=1.0,
        versions=[VersionSpan(0, 1, 7)],
        reward=1.0,
        reward_components={"correct": 1.0},
        verdict="correct",
        finish_reason="stop",
    )
    return Group(
        run_id="run",
        task="countdown",
        problem_id="p-1",
        role=role,
        ordinal=ordinal,
        attempt=attempt,
        sampling_temperature=1.0,
        entropy_target_generation=1,
        prompt_tokens=np.array([1, 2, 3], "<i4").tobytes(),
        producer_id="g",
        producer_sequence=ordinal,
        started_at=1.0,
        finished_at=2.0,
        trajectories=[rollout, rollout],
    )


def group_bytes(role: Role = "base", ordinal: int = 0, attempt: int = 0) -> bytes:
    """An encoded `make_group`."""
    return encode_group(make_group(role, ordinal, attempt), size_cap=SIZE_CAP)


class LossyRedis(Redis):
    """A client that can lose a reply to a script that took effect: the reply to the next call, or to a later one."""

    replies_before_loss: int | None = None

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        reply = super().evalsha(sha, numkeys, *keys_and_args)
        self.lose()
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = super().pipeline(transaction, shard_hint)
        execute = pipeline.execute

        def lossy(raise_on_error: bool = True) -> list[Any]:
            replies = execute(raise_on_error)
            self.lose()
            return replies

        pipeline.execute = lossy
        return pipeline

    def lose(self) -> None:
        """Raise if the reply just received is the one to lose."""
        if self.replies_before_loss is None:
            return
        self.replies_before_loss -= 1
        if self.replies_before_loss < 0:
            self.replies_before_loss = None
            raise RedisConnectionError("the reply was lost")


def lossy_client(access: RedisAccess) -> LossyRedis:
    """A client like `access.sync()` that can lose replies."""
    return access._client(LossyRedis, access.sync().get_retry())


class Queue:
    """Both ends of one run's queue for sequential tests, with the actuators set and the consumer open."""

    def __init__(
        self, access: RedisAccess, run_id: str, *, capacity: int = 1000, max_deliveries: int = 3
    ) -> None:
        self.run_id, self.keys = run_id, RunKeys(run_id)
        self.redis = lossy_client(access)
        self.max_deliveries = max_deliveries
        self._loop = asyncio.Runner()
        self._async_redis = access.asyncio()
        self.producer = ReplayProducer(self._async_redis, run_id, capacity=capacity)
        self.admin = ReplayAdmin(self.redis, run_id, capacity=capacity, entry_bytes=SIZE_CAP)
        self.consumer = self.new_consumer()
        self.publisher.set_actuators(1.25, 0.5, 3, 2)

    def new_consumer(self) -> ReplayConsumer:
        """A new learner incarnation, which fences off the earlier ones."""
        consumer = ReplayConsumer(self.redis, self.run_id, max_deliveries=self.max_deliveries)
        consumer.open()
        return consumer

    @property
    def publisher(self) -> ActuatorPublisher:
        """The publisher of the newest incarnation."""
        return ActuatorPublisher(self.redis, self.run_id, self.consumer.epoch)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the queue's event loop."""
        return self._loop.run(coroutine)

    def lease(
        self, count: int, *, limit: int = 1000, role: Role = "base", by: str = "g0", ttl: float = 3600
    ) -> Lease:
        """Lease groups."""
        return self.run(self.producer.lease(role, by, limit, count, ttl))

    def add(
        self,
        ordinal: int,
        *,
        role: Role = "base",
        attempt: int = 0,
        data: bytes | None = None,
        by: str = "g0",
    ) -> AddOutcome:
        """Add a group, by default a valid one."""
        return self.add_together([ordinal], role=role, attempt=attempt, data=data, by=by)[0]

    def add_together(
        self,
        ordinals: list[int],
        *,
        role: Role = "base",
        attempt: int = 0,
        data: bytes | None = None,
        by: str = "g0",
    ) -> list[AddOutcome]:
        """Add several groups in one round trip."""
        groups = [
            Finished(o, attempt, group_bytes(role, o, attempt) if data is None else data) for o in ordinals
        ]
        return self.run(self.producer.add(role, by, groups))

    def fill(self, count: int) -> None:
        """Lease and add `count` groups."""
        for ordinal in self.lease(count).ordinals:
            assert self.add(ordinal) == "added"

    def expire(self, ordinal: int, role: Role = "base", at: float = 0) -> None:
        """Make a lease expire, by default in the distant past."""
        self.redis.zadd(self.keys.leases(role), {str(ordinal): at}, xx=True)

    @property
    def stats(self) -> QueueStats:
        """The queue's counters."""
        return queue_stats(self.redis, self.run_id)

    def close(self) -> None:
        """Close the connections and the loop."""
        self.run(self._async_redis.aclose())
        self._loop.close()
        self.redis.close()


def die(queue: Queue, *reasons: str) -> None:
    """Add, read and dead-letter one new group for each reason."""
    queue.fill(len(reasons))
    for entry, reason in zip(queue.consumer.read(len(reasons), 0), reasons, strict=True):
        assert queue.consumer.dead_letter(entry.entry_id, reason)


def always() -> bool:
    return True
