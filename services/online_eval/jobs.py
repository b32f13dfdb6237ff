"""Evaluations during training, in Redis: one job at a time, its problems leased to generators that have nothing to do.

The driver opens a job and closes it; generators lease problems, one by one, and hand in what they counted. A lease that
expires goes to the next generator that asks, and only the first result of a problem counts. Nothing here touches the
replay queue or its data cursor.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from services.redis.keys import RunKeys
from services.redis.scripts import script_text


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """One problem's result."""

    correct: int
    oldest: int
    newest: int
    """learner steps of the policy versions that sampled its tokens"""


class Job(NamedTuple):
    """An open evaluation."""

    id: str
    step: int
    """generators that run this version, or a later one, work on it"""
    problems: int


class HeldOutDesk:
    """The driver's side: opens and closes jobs."""

    def __init__(self, redis: Redis, run_id: str) -> None:
        self._redis, self._keys = redis, RunKeys(run_id)

    def open(self, step: int, problems: int) -> Job:
        """Begin the evaluation of the policy after `step` learner steps; one that is open is dropped."""
        self.drop()
        job_id = f"{step}-{self._redis.incr(self._keys.held_out_count)}"
        fields: dict[Any, Any] = {"id": job_id, "step": step, "problems": problems, "next": 0}
        self._redis.hset(self._keys.held_out, mapping=fields)
        return Job(job_id, step, problems)

    def done(self) -> int:
        """Problems of the open job that are finished."""
        return cast("int", self._redis.hlen(self._keys.held_out_results))

    def close(self) -> dict[int, Counted]:
        """End the open job; what was finished, by problem."""
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(self._keys.held_out_results))
        self.drop()
        found = {int(problem): msgspec.json.decode(text, type=Counted) for problem, text in stored.items()}
        return dict(sorted(found.items()))

    def drop(self) -> None:
        """End whatever is open, such as what a driver that was killed left."""
        self._redis.delete(self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results)


class HeldOutWork:
    """A generator's side. ttl: seconds for which a problem is leased."""

    def __init__(self, redis: AsyncRedis, run_id: str, ttl: float) -> None:
        self._keys, self._ttl = RunKeys(run_id), ttl
        self._lease, self._renew, self._hand_in = (
            redis.register_script(script_text("services.online_eval", name))
            for name in ("lease", "renew", "hand_in")
        )

    async def lease(self, loaded_step: int, count: int) -> tuple[str, list[int]] | None:
        """Job and up to `count` of its problems; None where there is nothing to do for a generator of that version."""
        keys = [self._keys.held_out, self._keys.held_out_leases, self._keys.control]
        reply = cast("list[Any]", await self._lease(keys=keys, args=[loaded_step, self._ttl, count]))
        if not reply or not reply[1]:
            return None
        return reply[0].decode(), [int(problem) for problem in reply[1]]

    async def renew(self, job: str, problems: list[int]) -> None:
        """Keep the leases of problems that are still worked on."""
        keys = [self._keys.held_out, self._keys.held_out_leases]
        await self._renew(keys=keys, args=[job, self._ttl, *problems])

    async def hand_in(self, job: str, problem: int, counted: Counted) -> bool:
        """Leave a result; False where it came too late or was there already."""
        keys = [self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results]
        return bool(await self._hand_in(keys=keys, args=[job, problem, msgspec.json.encode(counted)]))
