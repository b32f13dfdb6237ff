"""The generators' side of the replay queue: leases on groups, and adding finished groups exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from services.redis.keys import RunKeys
from services.redis.scripts import script_text
from trainer.roles import Role

AddOutcome = Literal["added", "duplicate", "full", "unleased"]


@dataclass(frozen=True)
class Lease:
    """Groups to generate, and the actuators of rollouts that start now."""

    ordinals: list[int]
    """empty when no group is admissible, or before the learner has set the actuators"""
    temperature: float = 1.0
    """sampling temperature of adaptive rollouts"""
    alpha: float = 0.0
    """weight of the auxiliary loss"""
    actuator_step: int = -1
    """the learner step from which the actuators hold"""
    entropy_target_generation: int = 0


class Finished(NamedTuple):
    """A group that is ready for the queue."""

    ordinal: int
    attempt: int
    data: bytes
    """encoded"""


class ReplayProducer:
    """One generator's access to the queue of `run_id`. capacity: unread groups above which `add` refuses."""

    def __init__(self, redis: Redis, run_id: str, *, capacity: int) -> None:
        self._keys = RunKeys(run_id)
        self._capacity = capacity
        self._lease = redis.register_script(script_text("services.replay", "lease"))
        self._renew = redis.register_script(script_text("services.replay", "renew"))
        self._add = redis.register_script(script_text("services.replay", "add"))

    async def lease(self, role: Role, producer_id: str, limit: int, count: int, ttl: float) -> Lease:
        """Lease up to `count` groups for `ttl` seconds: expired leases, lowest ordinal first, then new groups.

        limit: only ordinals below it are leased, which bounds staleness; the caller passes
        (loaded step + 1 + max_staleness) × prompts per step. A producer whose own leases expired may get ordinals that
        it still works on. If the reply is lost, its leases expire unused.
        """
        keys = self._keys
        reply = await self._lease(
            keys=[
                keys.cursor(role),
                keys.leases(role),
                keys.lease_owners(role),
                keys.actuators,
                keys.counters,
                keys.control,
            ],
            args=[producer_id, limit, count, ttl],
        )
        if reply is None:
            return Lease([])
        ordinals, (temperature, alpha, step, generation) = cast("tuple[list[int], list[bytes]]", reply)
        return Lease(ordinals, float(temperature), float(alpha), int(step), int(generation))

    async def renew(self, role: Role, producer_id: str, ordinals: Sequence[int], ttl: float) -> list[int]:
        """Extend leases to `ttl` seconds from now; 0 releases them to the next producer that requests groups.

        Returns the ordinals that the producer still owns; the others were added or leased to another producer.
        """
        reply = await self._renew(
            keys=[self._keys.leases(role), self._keys.lease_owners(role)],
            args=[producer_id, ttl, *ordinals],
        )
        return cast("list[int]", reply)

    async def add(self, role: Role, producer_id: str, groups: Sequence[Finished]) -> list[AddOutcome]:
        """Add groups, each at most once, and end their leases; returns one outcome per group. One round trip.

        "duplicate": the group id entered the queue before, perhaps by an earlier try of this call whose reply was lost.
        "full": too many unread groups, or Redis is out of memory; the group was not added. "unleased": the data cursor
        has not reached the ordinal.
        """
        keys = self._keys
        names = [
            keys.trajectories,
            keys.seen(role),
            keys.seen_attempts(role),
            keys.leases(role),
            keys.lease_owners(role),
            keys.cursor(role),
            keys.counters,
            keys.lost,
        ]
        arguments: list[str | int | bytes] = [role, producer_id, self._capacity]
        for group in groups:
            arguments += [group.ordinal, group.attempt, group.data]
        try:
            reply = cast("list[bytes]", await self._add(keys=names, args=arguments))
        except OutOfMemoryError:
            return ["full"] * len(groups)
        return [cast("AddOutcome", outcome.decode()) for outcome in reply]
