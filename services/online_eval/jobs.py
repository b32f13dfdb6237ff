"""Evaluations during training, in Redis: one job at a time, its problems leased to generators that have nothing to do.

The driver opens a job and closes it; generators lease problems, one by one, and hand in what they counted. A lease that
expires goes to the next generator that asks, and only the first result of a problem counts. Nothing here touches the
replay queue or its data cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple, cast

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from services.redis.keys import RunKeys

_LEASE = """
local job = redis.call('HMGET', KEYS[1], 'id', 'step', 'problems', 'next')
if not job[1] or tonumber(ARGV[1]) < tonumber(job[2]) or (redis.call('GET', KEYS[3]) or 'run') ~= 'run' then
    return {}
end
local clock, count = redis.call('TIME'), tonumber(ARGV[3])
local now = clock[1] + clock[2] / 1e6
local given = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.6f', now), 'BYSCORE', 'LIMIT', 0, count)
local next = tonumber(job[4])
while #given < count and next < tonumber(job[3]) do
    given[#given + 1] = next
    next = next + 1
end
redis.call('HSET', KEYS[1], 'next', next)
for _, problem in ipairs(given) do
    redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(ARGV[2])), problem)
end
return {job[1], given}
"""
"""KEYS job, leases, desired state; ARGV loaded step, seconds, count. A run that is not to work gives out nothing."""

_HAND_IN = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HSETNX', KEYS[3], ARGV[2], ARGV[3])
"""
"""KEYS job, leases, results; ARGV job, problem, result. A result of a job that is closed is dropped."""

_RENEW = """
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
for i = 3, #ARGV do
    redis.call('ZADD', KEYS[2], 'XX', string.format('%.6f', clock[1] + clock[2] / 1e6 + tonumber(ARGV[2])), ARGV[i])
end
return 1
"""
"""KEYS job, leases; ARGV job, seconds, problems."""


class CorrectCount(msgspec.Struct, frozen=True, array_like=True):
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


class EvaluationJobs:
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

    def close(self) -> dict[int, CorrectCount]:
        """End the open job; what was finished, by problem."""
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(self._keys.held_out_results))
        self.drop()
        found = {int(problem): msgspec.json.decode(text, type=CorrectCount) for problem, text in stored.items()}
        return dict(sorted(found.items()))

    def drop(self) -> None:
        """End whatever is open, such as what a driver that was killed left."""
        self._redis.delete(self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results)


class EvaluationLeases:
    """A generator's side. ttl: seconds for which a problem is leased."""

    def __init__(self, redis: AsyncRedis, run_id: str, ttl: float) -> None:
        self._redis, self._keys, self._ttl = redis, RunKeys(run_id), ttl

    async def lease(self, loaded_step: int, count: int) -> tuple[str, list[int]] | None:
        """Job and up to `count` of its problems; None where there is nothing to do for a generator of that version."""
        keys = (self._keys.held_out, self._keys.held_out_leases, self._keys.control)
        reply = await self._call(_LEASE, keys, loaded_step, self._ttl, count)
        if not reply or not reply[1]:
            return None
        return reply[0].decode(), [int(problem) for problem in reply[1]]

    async def renew(self, job: str, problems: list[int]) -> None:
        """Keep the leases of problems that are still worked on."""
        await self._call(_RENEW, (self._keys.held_out, self._keys.held_out_leases), job, self._ttl, *problems)

    async def hand_in(self, job: str, problem: int, counted: CorrectCount) -> bool:
        """Leave a result; False where it came too late or was there already."""
        keys = (self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results)
        return bool(await self._call(_HAND_IN, keys, job, problem, msgspec.json.encode(counted)))

    async def _call(self, script: str, keys: tuple[str, ...], *arguments: Any) -> Any:
        return await cast("Awaitable[Any]", self._redis.eval(script, len(keys), *keys, *arguments))
