"""The learner's side of the replay queue, for rank 0 only: read, acknowledge, trim, dead-letter.

Every write carries the epoch of this learner incarnation; Redis refuses it once a newer incarnation has opened the
queue. A call may be repeated after a lost reply: no effect happens twice and no entry is lost.

Redis records what the learner works on: the entries of the newest reading call, and the groups of the step that it
computes. When the learner dies, one delivery is counted against those entries and no others. An entry with more than
one delivery is delivered alone, so one that kills its reader is soon the only suspect; the groups of a step that
succeeds are cleared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

from redis import Redis

from services.redis.fencing import call_fenced
from services.redis.keys import CONSUMER_GROUP, CONSUMER_NAME, RunKeys
from services.redis.scripts import script_text
from services.replay.entries import Entry, decode_entry
from services.replay.stats import QueueStats, queue_stats
from services.replay.stream_reader import StreamReader

ENTRIES_PER_REDELIVERY = 64
IDS_PER_SCRIPT = 1000
FENCED_SCRIPTS = ("check", "redeliver", "mark_learning", "acknowledge", "dead_letter", "trim")


class ReplayConsumer:
    """The learner's access to the queue of `run_id`. Methods raise FencedError when a newer incarnation exists.

    max_deliveries: learners in a row that may die while they work on an entry before it is dead-lettered;
    unacked_bytes: no entry is read that would bring the read and unacknowledged bytes above it; None: no limit.
    """

    def __init__(
        self, redis: Redis, run_id: str, *, max_deliveries: int, unacked_bytes: int | None = None
    ) -> None:
        self._redis, self._run_id, self._keys = redis, run_id, RunKeys(run_id)
        self._max_deliveries = max_deliveries
        self._reader = StreamReader(redis, self._keys, unacked_bytes)
        self._epoch = 0
        self._inherited = "0-0"
        """newest stream id that an earlier incarnation read"""
        self._sizes: dict[str, int] = {}
        """bytes of each entry that was delivered and is not acknowledged"""
        self._open = redis.register_script(script_text("services.replay", "open"))
        self._scripts = {
            name: redis.register_script(script_text("services.replay", name)) for name in FENCED_SCRIPTS
        }

    def open(self) -> int:
        """Begin a learner incarnation, which fences off every earlier one; returns its epoch.

        Counts one delivery against each entry that the last incarnation worked on.
        """
        keys = self._keys
        names = [keys.fence, keys.trajectories, keys.counters, keys.reading, keys.learning]
        reply = self._open(keys=names, args=[CONSUMER_GROUP, CONSUMER_NAME])
        self._epoch, newest = cast("tuple[int, bytes]", reply)
        self._inherited = newest.decode()
        self._reader.begin(self._inherited)
        return self._epoch

    @property
    def epoch(self) -> int:
        """The epoch that `open` gave; 0 before."""
        return self._epoch

    def check(self) -> None:
        """Raise `FencedError` if a newer incarnation exists: before a write that Redis does not guard."""
        self._call("check", [], [])

    def pending(self, applied: Collection[str] = ()) -> Iterator[Entry]:
        """After `open`: the entries that an earlier incarnation read and did not acknowledge, in admission order.

        applied: entry ids whose effect the loaded checkpoint holds; they are skipped. Entries delivered more than
        `max_deliveries` times are dead-lettered instead. Advancing the iterator records that reading the
        entries before is done.
        """
        for ids in self._pages_to_redeliver(applied):
            for row in self._redeliver(ids):
                yield self._sized(decode_entry(*row))
        self.reading_done()

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """Up to `count` new entries, in admission order; waits up to `block_ms` milliseconds for the first.

        Records that reading the entries of earlier calls is done.
        """
        self._require_open()
        return [self._sized(entry) for entry in self._reader.read(self._epoch, count, block_ms)]

    @property
    def budget_exhausted(self) -> bool:
        """Whether reading has stopped at `unacked_bytes` and nothing was acknowledged since.

        Reading and acknowledging may happen on two threads.
        """
        return self._reader.budget_exhausted

    def reading_done(self) -> None:
        """Record that no entry is being read: for the end of reading, so that none becomes a suspect."""
        self._redeliver(())

    def mark_learning(self, entry_ids: Sequence[str]) -> None:
        """Record that the learner computes a step with these entries; the step before it has succeeded."""
        keys = [self._keys.trajectories, self._keys.learning]
        self._call("mark_learning", keys, [CONSUMER_GROUP, CONSUMER_NAME, *entry_ids])

    def acknowledge(self, entry_ids: Iterable[str]) -> int:
        """Acknowledge entries whose effect a verified checkpoint holds. Returns how many were pending."""
        acknowledged = 0
        for ids in _pages(dict.fromkeys(entry_ids), IDS_PER_SCRIPT):
            # Removed before the call: if its reply is lost, a repeated call looks the sizes up one by one.
            sizes = {entry_id: self._sizes.pop(entry_id) for entry_id in ids if entry_id in self._sizes}
            unknown = [entry_id for entry_id in ids if entry_id not in sizes]
            for size, some in ((sum(sizes.values()), list(sizes)), ("", unknown)):
                if some:
                    names = [self._keys.trajectories, self._keys.counters]
                    acknowledged += self._call("acknowledge", names, [CONSUMER_GROUP, size, *some])
        self._reader.budget_released()
        return acknowledged

    def trim(self) -> int:
        """Delete the entries below the lowest pending or unread one; returns how many."""
        return self._call("trim", [self._keys.trajectories, self._keys.counters], [CONSUMER_GROUP])

    def dead_letter(self, entry_id: str, reason: str) -> bool:
        """Atomically move a pending entry to the dead letters; False if it is not pending."""
        keys = self._keys
        names = [keys.trajectories, keys.counters, keys.dead_letters, keys.lost]
        moved = bool(self._call("dead_letter", names, [CONSUMER_GROUP, entry_id, reason]))
        self._sizes.pop(entry_id, None)
        return moved

    def lost(self, role: str, ordinals: Sequence[int]) -> set[int]:
        """Those of `ordinals` that were dead-lettered and not requeued: a batch need not wait for them."""
        if not ordinals:
            return set()
        members = [f"{role}:{ordinal}" for ordinal in ordinals]
        found = cast("list[int]", self._redis.smismember(self._keys.lost, members))
        return {ordinal for ordinal, is_lost in zip(ordinals, found, strict=True) if is_lost}

    def stats(self) -> QueueStats:
        """The queue's counters."""
        return queue_stats(self._redis, self._run_id)

    def _sized(self, entry: Entry) -> Entry:
        self._sizes[entry.entry_id] = len(entry.data)
        return entry

    def _redeliver(self, ids: Sequence[str]) -> list[Any]:
        return self._call("redeliver", [self._keys.trajectories, self._keys.reading], [CONSUMER_GROUP, *ids])

    def _pages_to_redeliver(self, applied: Collection[str]) -> Iterator[list[str]]:
        page: list[str] = []
        for entry_id, deliveries in self._pending_ids():
            if entry_id in applied:
                continue
            if deliveries > self._max_deliveries:
                self.dead_letter(
                    entry_id,
                    f"the learner died {self._max_deliveries} times in a row while it worked on it",
                )
                continue
            if page and (deliveries > 1 or len(page) == ENTRIES_PER_REDELIVERY):
                yield page
                page = []
            page.append(entry_id)
            if deliveries > 1:
                yield page
                page = []
        if page:
            yield page

    def _pending_ids(self) -> Iterator[tuple[str, int]]:
        """Stream id and deliveries of the pending entries that earlier incarnations recorded as read."""
        after = "-"
        while page := cast(
            "list[dict[str, Any]]",
            self._redis.xpending_range(
                self._keys.trajectories, CONSUMER_GROUP, min=after, max=self._inherited, count=IDS_PER_SCRIPT
            ),
        ):
            for item in page:
                yield item["message_id"].decode(), item["times_delivered"]
            after = f"({page[-1]['message_id'].decode()}"

    def _call(self, name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        self._require_open()
        return call_fenced(self._scripts[name], self._keys.fence, self._epoch, keys, arguments)

    def _require_open(self) -> None:
        if not self._epoch:
            raise RuntimeError("the replay consumer was not opened")


def _pages(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(ids)
    while page := list(islice(remaining, size)):
        yield page
