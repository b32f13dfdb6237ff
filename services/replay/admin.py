"""Dead letters of the replay queue, for a person: look, requeue, purge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
from redis import Redis

from services.keys import RunKeys
from services.replay.producer import add_call, checked_outcome
from services.replay.scripts import script
from trainer.errors import ScopeError
from trainer.trajectory import TrajectoryError, decode_group, encode_group


@dataclass(frozen=True)
class DeadLetter:
    """A group that will not be used, and why."""

    letter_id: str
    """stream id: when it was dead-lettered, milliseconds since the epoch, then a sequence number"""
    group_id: str
    producer_id: str
    reason: str
    deliveries: int
    data: bytes = field(repr=False)


class ReplayAdmin:
    """Care of the dead letters of `run_id`. capacity, entry_bytes: as in the run's `pipeline` block."""

    def __init__(self, redis: Redis, run_id: str, *, capacity: int, entry_bytes: int) -> None:
        self._redis, self._keys = redis, RunKeys(run_id)
        self._capacity, self._entry_bytes = capacity, entry_bytes
        self._add = redis.register_script(script("add"))
        self._resolve = redis.register_script(script("resolve"))

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest `limit` dead letters, newest first."""
        return _letters(self._redis.xrevrange(self._keys.dead_letters, count=limit))

    def requeue(self, letter_id: str) -> str:
        """Put a dead letter back into the queue under the next attempt; returns the new group id.

        Safe to repeat after a failure halfway: the new id enters the queue once. Raises `ScopeError` for an
        unknown letter, one that cannot be decoded, and a full queue.
        """
        found = _letters(self._redis.xrange(self._keys.dead_letters, letter_id, letter_id))
        if not found:
            raise ScopeError(
                f"dead letter {letter_id!r} does not exist: it was requeued or purged, or never was."
            )
        try:
            group = decode_group(found[0].data, size_cap=self._entry_bytes)
            group = msgspec.structs.replace(group, attempt=group.attempt + 1)
            data = encode_group(group, size_cap=self._entry_bytes)
        except TrajectoryError as error:
            raise ScopeError(
                f"dead letter {letter_id!r} ({found[0].group_id}) cannot be requeued: {error}. "
                "Purge it instead."
            ) from error
        keys, arguments = add_call(
            self._keys, data, group.role, group.ordinal, group.attempt, group.producer_id, self._capacity
        )
        outcome = cast("bytes", self._add(keys=keys, args=arguments)).decode()
        if checked_outcome(outcome, group.role, group.ordinal) == "full":
            raise ScopeError(
                f"dead letter {letter_id!r} cannot be requeued now: the queue holds "
                f"pipeline.queue_capacity={self._capacity} unread groups. Try again later."
            )
        self._resolved("requeued", group.group_id, [letter_id])
        return group.group_id

    def purge(self, letter_ids: Sequence[str], reason: str) -> int:
        """Delete dead letters for good; each leaves a record with the reason. Returns how many there were."""
        return self._resolved("purged", reason, letter_ids)

    def _resolved(self, outcome: str, reason: str, letter_ids: Sequence[str]) -> int:
        keys = [self._keys.dead_letters, self._keys.dead_letter_outcomes, self._keys.counters]
        return cast("int", self._resolve(keys=keys, args=[outcome, reason, *letter_ids]))


def _letters(items: object) -> list[DeadLetter]:
    return [
        DeadLetter(
            letter_id=letter_id.decode(),
            group_id=fields[b"group"].decode(),
            producer_id=fields[b"producer"].decode(),
            reason=fields[b"reason"].decode(),
            deliveries=int(fields[b"deliveries"]),
            data=fields[b"data"],
        )
        for letter_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", items)
    ]
