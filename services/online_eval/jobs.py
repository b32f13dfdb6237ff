"""Evaluation jobs in Redis: one at a time, its held-out problems leased to generators that have no group to make.

The driver opens and closes a job; generators lease its problems and submit the results. A problem whose lease expires
is leased again, and only its first result counts. The replay queue and its data cursor are not involved.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from services.redis.keys import RunKeys
from services.redis.scripts import script_text


class ResponseCounts(NamedTuple):
    """Responses to one held-out problem."""

    correct: int
    unscored: int
    """responses to which the verifier gave no score; they are not correct"""


class CorrectCount(msgspec.Struct, frozen=True, array_like=True):
    """The result of one problem."""

    correct: int
    """correct responses"""
    oldest: int
    newest: int
    """learner steps of the oldest and the newest policy version that sampled a token of the responses"""
    unscored: int = 0
    """responses without a score"""


class Job(NamedTuple):
    """An open evaluation."""

    id: str
    step: int
    """learner step; only generators that run this version or a later one lease its problems"""
    problems: int
    """number of held-out problems"""


class EvaluationJobs:
    """The driver's side: opens and closes evaluation jobs."""

    def __init__(self, redis: Redis, run_id: str) -> None:
        self._redis, self._keys = redis, RunKeys(run_id)

    def open(self, step: int, problems: int) -> Job:
        """Open the evaluation of the policy after `step` learner steps; an open one is discarded."""
        self.discard()
        job_id = f"{step}-{self._redis.incr(self._keys.held_out_count)}"
        fields: dict[Any, Any] = {"id": job_id, "step": step, "problems": problems, "next": 0}
        self._redis.hset(self._keys.held_out, mapping=fields)
        return Job(job_id, step, problems)

    def finished(self) -> int:
        """Return how many problems of the open job have a result."""
        return cast("int", self._redis.hlen(self._keys.held_out_results))

    def close(self) -> dict[int, CorrectCount]:
        """Close the open job; returns its results by problem index."""
        stored = cast("dict[bytes, bytes]", self._redis.hgetall(self._keys.held_out_results))
        self.discard()
        found = {
            int(problem): msgspec.json.decode(text, type=CorrectCount) for problem, text in stored.items()
        }
        return dict(sorted(found.items()))

    def discard(self) -> None:
        """Remove the open job and its results, such as those of a driver that was killed."""
        self._redis.delete(self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results)


class EvaluationLeases:
    """A generator's side: leases problems and submits their results. ttl: seconds of a lease."""

    def __init__(self, redis: AsyncRedis, run_id: str, ttl: float) -> None:
        self._keys, self._ttl = RunKeys(run_id), ttl
        self._lease, self._renew, self._submit = (
            redis.register_script(script_text("services.online_eval", name))
            for name in ("lease", "renew", "submit")
        )

    async def lease(self, loaded_step: int, count: int) -> tuple[str, list[int]] | None:
        """Lease up to `count` problems; returns the job's id and the problems' indices.

        loaded_step: learner step of the generator's policy version. Returns None when no problem is to be leased.
        """
        keys = [self._keys.held_out, self._keys.held_out_leases, self._keys.control]
        reply = cast("list[Any]", await self._lease(keys=keys, args=[loaded_step, self._ttl, count]))
        if not reply or not reply[1]:
            return None
        return reply[0].decode(), [int(problem) for problem in reply[1]]

    async def renew(self, job: str, problems: list[int]) -> None:
        """Extend the leases of problems that are still in flight."""
        keys = [self._keys.held_out, self._keys.held_out_leases]
        await self._renew(keys=keys, args=[job, self._ttl, *problems])

    async def submit(self, job: str, problem: int, count: CorrectCount) -> bool:
        """Submit a result; False when the job is closed or the problem has a result already."""
        keys = [self._keys.held_out, self._keys.held_out_leases, self._keys.held_out_results]
        return bool(await self._submit(keys=keys, args=[job, problem, msgspec.json.encode(count)]))
