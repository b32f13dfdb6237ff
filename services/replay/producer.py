"""Generator's side of the replay queue: leases on groups, and adding finished groups exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from services.keys import RunKeys
from services.replay.scripts import script
from trainer.roles import Role

AddOutcome = Literal["added", "duplicate", "full"]

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 1.0


@dataclass(frozen=True)
class Lease:
    """Groups to make, and the actuators in force for rollouts that start now."""

    ordinals: list[int]
    """empty when nothing is admissible, or before the learner has set the actuators"""
    temperature: float = 1.0
    """of adaptive rollouts"""
    alpha: float = 0.0
    """weight of the auxiliary loss"""
    actuator_step: int = -1
    """the learner step from which the actuators hold"""
    set_point_generation: int = 0


class ReplayProducer:
    """One generator's access to the queue of `run_id`. capacity: unread groups above which `add` refuses."""

    def __init__(self, redis: Redis, run_id: str, *, capacity: int) -> None:
        self._keys = RunKeys(run_id)
        self._capacity = capacity
        self._lease = redis.register_script(script("lease"))
        self._renew = redis.register_script(script("renew"))
        self._add = redis.register_script(script("add"))

    async def lease(self, role: Role, producer_id: str, limit: int, count: int, ttl: float) -> Lease:
        """Take up to `count` groups for `ttl` seconds: expired leases, lowest ordinal first, then new groups.

        limit: pacing admission, no ordinal at or above it is given out; the caller passes
        (loaded step + 1 + max_staleness) × prompts a step. A producer that let its own leases expire may get
        ordinals it is still working on. A reply lost on the way leaves leases that expire unused.
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
        """Extend leases to `ttl` seconds from now; 0 gives them back at once.

        Returns the ordinals still owned; the others were added or went to another producer.
        """
        reply = await self._renew(
            keys=[self._keys.leases(role), self._keys.lease_owners(role)],
            args=[producer_id, ttl, *ordinals],
        )
        return cast("list[int]", reply)

    async def add(self, data: bytes, role: Role, ordinal: int, attempt: int, producer_id: str) -> AddOutcome:
        """Add an encoded group, whole and once, and end its lease.

        "duplicate": the group id entered the queue before (perhaps by this call, its first reply lost).
        "full": too many unread groups, or Redis is out of memory; nothing changed. Raises ValueError for an
        ordinal that was never leased.
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
        arguments = [role, ordinal, attempt, producer_id, self._capacity, data]
        try:
            outcome = cast("bytes", await self._add(keys=names, args=arguments)).decode()
        except OutOfMemoryError:
            return "full"
        if outcome == "unleased":
            raise ValueError(f"group {role}:{ordinal} was never leased: the data cursor has not reached it")
        return cast("AddOutcome", outcome)

    async def add_waiting(
        self, data: bytes, role: Role, ordinal: int, attempt: int, producer_id: str
    ) -> AddOutcome:
        """`add`, again and again while the queue is full. The caller keeps renewing the lease."""
        wait = FIRST_WAIT_SECONDS
        while (outcome := await self.add(data, role, ordinal, attempt, producer_id)) == "full":
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        return outcome
