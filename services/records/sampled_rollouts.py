"""Sampled rollouts: a few of each learner step for people to read, as text with the log-probability of every token.

Rank 0 stores them in the run directory and in Redis, both bounded; the control plane and `scope rollouts` read them.
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
from trainer.rollouts.rewards import FULL_REWARD

if TYPE_CHECKING:
    from redis import Redis

FILE, OLDER_FILE = "rollouts.jsonl", "rollouts.old.jsonl"
PAGE = 100
MOST_SCANNED = 1000
"""rollouts that one call of `read_rollouts` examines"""


class SampledRollout(BaseModel):
    """One rollout. Log-probabilities are in nats."""

    model_config = ConfigDict(frozen=True)

    step: int
    """the learner step that trained on it"""
    lineage: int
    role: Role
    group_id: str
    index: int
    """index within its group"""
    problem_id: str
    prompt: str
    temperature: float
    """sampling temperature"""
    reward: float
    scored: bool = True
    """whether the verifier gave a score; if not, `verdict` is the reason"""
    correct: bool = Field(default_factory=lambda fields: fields["reward"] >= FULL_REWARD)
    """whether the response is a success by `task.positive_from`; in files without it, where the reward is 1"""
    verdict: str
    finish: str
    """`stop`, or `length` if it was truncated"""
    length: int
    """length of the response, tokens"""
    tokens: list[str]
    """text of each token; only the first ones of a long response"""
    logprobs: list[float | None]
    """behaviour log-probability of each token: base rollouts at the sampling temperature, adaptive ones at 1; None for
    tokens of the environment"""

    @property
    def response(self) -> str:
        """The text of the stored tokens."""
        return "".join(self.tokens)

    @property
    def surprisal(self) -> float | None:
        """Mean surprisal of the stored tokens that the policy sampled, nats; None without any.

        For base rollouts it estimates the policy's entropy at the sampling temperature. For adaptive ones it estimates
        no entropy: they are sampled at another temperature than their log-probabilities are computed at.
        """
        sampled = [-logprob for logprob in self.logprobs if logprob is not None]
        return sum(sampled) / len(sampled) if sampled else None


LONGEST_TEXT = 200
"""characters of the text that a rollout is searched for"""


class RolloutFilter(BaseModel):
    """Conditions on rollouts; None: any."""

    model_config = ConfigDict(frozen=True)

    step: int | None = None
    role: Role | None = None
    correct: bool | None = None
    """whether the response is a success; rollouts without a score are neither"""
    reward: float | None = None
    """smallest reward"""
    contains: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    """text in the prompt or the response, case-insensitive"""

    def fits(self, rollout: SampledRollout) -> bool:
        """Whether the rollout passes the filter."""
        text = None if self.contains is None else self.contains.casefold()
        return (
            (self.step is None or rollout.step == self.step)
            and (self.role is None or rollout.role == self.role)
            and (self.correct is None or (rollout.scored and rollout.correct == self.correct))
            and (self.reward is None or (rollout.scored and rollout.reward >= self.reward))
            and (text is None or text in rollout.prompt.casefold() or text in rollout.response.casefold())
        )


class RolloutFile:
    """Two files in the run directory of at most `limit` / 2 bytes each. When one is full, it replaces the older one."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._path, self._older, self._limit = directory / FILE, directory / OLDER_FILE, limit
        cut_incomplete_line(self._path)

    def append(self, rollouts: Iterable[SampledRollout]) -> None:
        """Append; passed to the operating system when this returns."""
        data = b"".join(rollout.model_dump_json().encode() + b"\n" for rollout in rollouts)
        if self._path.exists() and self._path.stat().st_size + len(data) > self._limit // 2:
            os.replace(self._path, self._older)
        with self._path.open("ab") as file:
            file.write(data)


def read_file(directory: Path, wanted: RolloutFilter, limit: int) -> list[SampledRollout]:
    """The newest `limit` rollouts that pass the filter, newest first."""
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
    """Append to the run's stream, which keeps about the newest `kept` rollouts."""
    key = RunKeys(run_id).rollouts
    with redis.pipeline(transaction=False) as pipeline:
        for rollout in rollouts:
            fields = {"rollout": rollout.model_dump_json()}
            pipeline.xadd(key, fields, maxlen=kept, approximate=True)  # pyright: ignore[reportArgumentType]
        pipeline.execute()


def read_rollouts(
    redis: Redis, run_id: str, wanted: RolloutFilter, limit: int, before: str | None
) -> tuple[list[tuple[str, SampledRollout]], str | None]:
    """The newest `limit` rollouts that pass the filter, with ids, and the cursor of the next page (None: the end).

    Examines at most `MOST_SCANNED`, so a page may be short although more follow. before: a cursor.
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
