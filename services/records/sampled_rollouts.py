"""Sampled rollouts for people: a few of each learner step, as text with the log-probability of every token.

Rank 0 keeps them in the run directory and in Redis, both bounded; the control plane and `scope rollouts` read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.records.jsonl import cut_incomplete_line, read_lines
from services.redis.keys import RunKeys
from services.redis.streams import newest_entries
from trainer.roles import Role

if TYPE_CHECKING:
    from redis import Redis

FILE, OLDER_FILE = "rollouts.jsonl", "rollouts.old.jsonl"
PAGE = 100
MOST_SCANNED = 1000
"""rollouts that one reading looks at"""


class SampledRollout(BaseModel):
    """One rollout. Log-probabilities are nats."""

    model_config = ConfigDict(frozen=True)

    step: int
    """the learner step that learned from it"""
    lineage: int
    role: Role
    group_id: str
    index: int
    """within its group"""
    problem_id: str
    prompt: str
    temperature: float
    """that it was sampled at"""
    reward: float
    verdict: str
    finish: str
    """`stop`, or `length` where it was cut off"""
    length: int
    """tokens"""
    tokens: list[str]
    """the text of each; the first ones of a long response"""
    logprobs: list[float | None]
    """behaviour log-probability of each, at the sampling temperature for base rollouts and at 1 for adaptive ones; None
    for tokens of an environment, which the policy only read"""

    @property
    def response(self) -> str:
        """The text of what is kept."""
        return "".join(self.tokens)

    @property
    def surprisal(self) -> float | None:
        """Mean surprisal of the kept tokens that the policy sampled, nats; None where there is none.

        Of base rollouts it estimates the policy's entropy at the sampling temperature. Adaptive ones are sampled at
        another temperature than the one that their log-probabilities are of: theirs estimates no entropy.
        """
        sampled = [-logprob for logprob in self.logprobs if logprob is not None]
        return sum(sampled) / len(sampled) if sampled else None


class RolloutFilter(BaseModel):
    """Which rollouts are wanted; what is None asks for nothing."""

    model_config = ConfigDict(frozen=True)

    step: int | None = None
    role: Role | None = None
    correct: bool | None = None
    """rewarded in full, or not"""
    reward: float | None = None
    """at least"""
    contains: Annotated[str, Field(max_length=200)] | None = None
    """in prompt or response, whatever the case"""

    def fits(self, rollout: SampledRollout) -> bool:
        """Whether it is one of them."""
        text = None if self.contains is None else self.contains.casefold()
        return (
            (self.step is None or rollout.step == self.step)
            and (self.role is None or rollout.role == self.role)
            and (self.correct is None or (rollout.reward >= 1) == self.correct)
            and (self.reward is None or rollout.reward >= self.reward)
            and (text is None or text in rollout.prompt.casefold() or text in rollout.response.casefold())
        )


class RolloutFile:
    """The run directory's copy: two files of at most half of `limit` bytes each, the older one given up first."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._path, self._older, self._limit = directory / FILE, directory / OLDER_FILE, limit
        cut_incomplete_line(self._path)

    def append(self, rollouts: Iterable[SampledRollout]) -> None:
        """Add at the end; written when this returns."""
        data = b"".join(rollout.model_dump_json().encode() + b"\n" for rollout in rollouts)
        if self._path.exists() and self._path.stat().st_size + len(data) > self._limit // 2:
            os.replace(self._path, self._older)
        with self._path.open("ab") as file:
            file.write(data)


def read_file(directory: Path, wanted: RolloutFilter, limit: int) -> list[SampledRollout]:
    """The newest `limit` that fit, newest first."""
    found: list[SampledRollout] = []
    for rollout in _newest_first(directory):
        if wanted.fits(rollout):
            found.append(rollout)
            if len(found) == limit:
                break
    return found


def _newest_first(directory: Path) -> Iterator[SampledRollout]:
    for name in (FILE, OLDER_FILE):
        path = directory / name
        if path.exists():
            for line in reversed(read_lines(path)):
                yield SampledRollout.model_validate_json(line)


def add_rollouts(redis: Redis, run_id: str, rollouts: Iterable[SampledRollout], kept: int) -> None:
    """Append to the run's stream, which keeps about the newest `kept`."""
    key = RunKeys(run_id).rollouts
    with redis.pipeline(transaction=False) as pipeline:
        for rollout in rollouts:
            fields = {"rollout": rollout.model_dump_json()}
            pipeline.xadd(key, fields, maxlen=kept, approximate=True)  # pyright: ignore[reportArgumentType]
        pipeline.execute()


def read_rollouts(
    redis: Redis, run_id: str, wanted: RolloutFilter, limit: int, before: str | None
) -> tuple[list[tuple[str, SampledRollout]], str | None]:
    """The newest `limit` that fit, newest first, with their ids; and where to go on, None at the end.

    At most `MOST_SCANNED` are looked at, so that there may be fewer although there are more.
    """
    found: list[tuple[str, SampledRollout]] = []
    for _ in range(MOST_SCANNED // PAGE):
        page = newest_entries(redis, RunKeys(run_id).rollouts, PAGE, before)
        for entry_id, fields in page:
            before = entry_id
            rollout = SampledRollout.model_validate_json(fields["rollout"])
            if wanted.fits(rollout):
                found.append((entry_id, rollout))
                if len(found) == limit:
                    return found, entry_id
        if len(page) < PAGE:
            return found, None
    return found, before
