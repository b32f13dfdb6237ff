"""Dead letters of the replay queue: list, requeue, purge.

Requests are idempotent: a repeated one changes nothing and gets its first answer, as long as that outcome is among the
newest thousand. Every change adds an entry to the run's audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
from redis import Redis
from redis.exceptions import OutOfMemoryError

from services.redis.keys import RunKeys
from services.redis.scripts import script_text
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import Group, TrajectoryError, decode_group, encode_group


@dataclass(frozen=True)
class DeadLetter:
    """A group that will not be trained on, and why."""

    letter_id: str
    """stream id: when it was dead-lettered, milliseconds since the epoch, then a sequence number"""
    group_id: str
    producer_id: str
    reason: str
    deliveries: int
    size: int
    """bytes of the encoded group"""

    @property
    def at(self) -> float:
        """When it was dead-lettered, seconds since the epoch."""
        return int(self.letter_id.split("-")[0]) / 1000


@dataclass(frozen=True)
class Outcome:
    """How a dead letter was resolved."""

    letter_id: str
    group_id: str
    outcome: Literal["requeued", "purged"]
    became: str
    """for `requeued`: the new group id, else empty"""
    reason: str
    """for `purged`: the reason given, else empty"""
    by: str
    at: float
    """seconds since the epoch"""


class UnknownDeadLetter(ScopeError):
    """The dead letter does not exist, or was resolved."""


class UnusableDeadLetter(ScopeError):
    """The dead letter cannot be requeued, only purged."""


class QueueFull(ScopeError):
    """The queue is at its capacity, or Redis out of memory."""


class ReplayAdmin:
    """Access to the dead letters of `run_id`. capacity, entry_bytes: as in the run's `pipeline` block."""

    def __init__(self, redis: Redis, run_id: str, *, capacity: int, entry_bytes: int) -> None:
        self._redis, self._keys = redis, RunKeys(run_id)
        self._capacity, self._entry_bytes = capacity, entry_bytes
        self._letters = redis.register_script(script_text("services.replay", "list_dead_letters"))
        self._requeue = redis.register_script(script_text("services.replay", "requeue"))
        self._purge = redis.register_script(script_text("services.replay", "purge"))

    def dead_letters(self, limit: int = 100, before: str = "") -> list[DeadLetter]:
        """The newest `limit` dead letters, newest first; only those older than the dead letter `before`, if given."""
        page = cast("list[Any]", self._letters(keys=[self._keys.dead_letters], args=[before, limit]))
        return [_letter(item) for item in page]

    def requeue(self, letter_id: str, by: str = "local", origin: str = "local") -> Outcome:
        """Atomically put a dead letter back into the queue, under the next attempt.

        Raises UnknownDeadLetter (also for one that was purged), UnusableDeadLetter for one that cannot be decoded or
        holds another group than its entry said, and QueueFull.
        """
        found = self._redis.xrange(self._keys.dead_letters, letter_id, letter_id)
        letters = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        entry = self._next_attempt(letter_id, letters[0][1]) if letters else ("", 0, 0, "", b"")
        keys = self._keys
        names = [*self._names, keys.trajectories, keys.seen_attempts(entry[0]), keys.lost]
        try:
            reply = self._requeue(keys=names, args=[by, origin, letter_id, self._capacity, *entry])
        except OutOfMemoryError:
            raise QueueFull(
                f"dead letter {letter_id!r} cannot be requeued now: Redis is out of memory. Try again later."
            ) from None
        said, *resolved = cast("list[Any]", reply)
        if said == b"full":
            raise QueueFull(
                f"dead letter {letter_id!r} cannot be requeued now: the queue holds "
                f"pipeline.queue_capacity={self._capacity} unread groups. Try again later."
            )
        outcome = _outcome(resolved[0]) if resolved else None
        if outcome is None or outcome.outcome != "requeued":
            raise unknown(letter_id, outcome)
        return outcome

    def purge(
        self, letter_ids: Sequence[str], reason: str, by: str = "local", origin: str = "local"
    ) -> list[Outcome]:
        """Delete dead letters. Returns the outcome of each one that exists or was resolved before."""
        reply = self._purge(keys=self._names, args=[by, origin, reason, *letter_ids])
        return [_outcome(item) for item in cast("list[Any]", reply)]

    @property
    def _names(self) -> list[str]:
        keys = self._keys
        return [keys.dead_letters, keys.dead_letter_outcomes, keys.counters, keys.audit]

    def _next_attempt(self, letter_id: str, fields: dict[bytes, bytes]) -> tuple[str, int, int, str, bytes]:
        """Role, ordinal, attempt, producer and bytes of the entry that a requeued dead letter becomes."""
        group_id = fields[b"group"].decode("utf-8", "replace")
        try:
            group = decode_group(fields[b"data"], size_cap=self._entry_bytes)
            if group.group_id != group_id:
                raise TrajectoryError(f"it holds the group {group.group_id}")
            again: Group = msgspec.structs.replace(group, attempt=group.attempt + 1)
            data = encode_group(again, size_cap=self._entry_bytes)
        except TrajectoryError as error:
            raise UnusableDeadLetter(
                f"dead letter {letter_id!r} ({group_id}) cannot be requeued: {error}. Purge it instead."
            ) from error
        return again.role, again.ordinal, again.attempt, again.producer_id, data


def unknown(letter_id: str, outcome: Outcome | None) -> UnknownDeadLetter:
    """The error for a dead letter that does not exist; names its outcome, if known."""
    if outcome is None:
        return UnknownDeadLetter(
            f"dead letter {letter_id!r} does not exist: it was requeued or purged, or never was."
        )
    became = f" as {outcome.became}" if outcome.became else f" ({outcome.reason})"
    return UnknownDeadLetter(
        f"dead letter {letter_id!r} does not exist: {outcome.by} {outcome.outcome} it{became}."
    )


def _letter(item: Sequence[Any]) -> DeadLetter:
    *texts, deliveries, size = item
    letter_id, group_id, producer_id, reason = (text.decode("utf-8", "replace") for text in texts)
    return DeadLetter(letter_id, group_id, producer_id, reason, int(deliveries), size)


def _outcome(fields: Sequence[bytes]) -> Outcome:
    letter_id, group_id, outcome, became, reason, by, at = (
        part.decode("utf-8", "replace") for part in fields
    )
    return Outcome(
        letter_id, group_id, cast("Literal['requeued', 'purged']", outcome), became, reason, by, float(at)
    )
