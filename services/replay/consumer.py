"""Learner's side of the replay queue, for rank 0 only: read, acknowledge, trim, dead-letter, publish.

Every write carries the epoch of this learner incarnation; Redis refuses it once a newer one has opened the
queue. Reading is a write: it moves entries to the reader. A call may be retried after a lost reply: none
takes effect twice, and no entry is lost on the way.

Redis knows what the learner has in hand: the entries of the newest reading call, and the groups of the step that it
computes. Only those are suspected when it dies. A suspect is delivered alone the next time, so that one that kills its
reader soon stands alone; a step that gets through clears its groups.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import ResponseError

from services.curriculum import encode_mixes
from services.fencing import FencedError
from services.keys import CONSUMER_GROUP, CONSUMER_NAME, RunKeys
from services.replay.entries import Entry
from services.replay.scripts import fenced_script, script
from services.replay.stats import QueueStats, queue_stats
from trainer.curriculum import StepMix

ENTRIES_A_SCRIPT = 32
"""Entries that one script hands out, so that Redis answers others meanwhile."""
IDS_A_SCRIPT = 1000
MIXES_KEPT = 64
"""learner steps behind the oldest that may be worked on"""
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.002, 0.05


class ReplayConsumer:
    """The learner's access to the queue of `run_id`.

    max_deliveries: learners in a row that may die with an entry in hand before it is dead-lettered; unacked_bytes:
    nothing is read that would bring what is read and not acknowledged above it (None: no limit).
    """

    def __init__(
        self, redis: Redis, run_id: str, *, max_deliveries: int, unacked_bytes: int | None = None
    ) -> None:
        self._redis, self._run_id, self._keys = redis, run_id, RunKeys(run_id)
        self._max_deliveries = max_deliveries
        self._unacked_bytes = "" if unacked_bytes is None else unacked_bytes
        self._epoch, self._received = 0, "0-0"
        self._acknowledgements = 0
        self._held_after: int | None = None
        """acknowledgements done when a read began that found no room; None where the newest read found some"""
        self._open = redis.register_script(script("open"))
        names = (
            "check",
            "read",
            "redeliver",
            "take_up",
            "acknowledge",
            "dead_letter",
            "trim",
            "set_fields",
        )
        self._scripts = {name: redis.register_script(fenced_script(name)) for name in names}

    def open(self) -> int:
        """Begin a learner incarnation; returns its epoch. Every earlier one is fenced off from now on.

        What the last one had in hand counts one more delivery.
        """
        keys = self._keys
        names = [keys.fence, keys.trajectories, keys.counters, keys.reading, keys.learning]
        reply = self._open(keys=names, args=[CONSUMER_GROUP, CONSUMER_NAME])
        self._epoch, newest = cast("tuple[int, bytes]", reply)
        self._received = newest.decode()
        return self._epoch

    @property
    def epoch(self) -> int:
        """The epoch that `open` gave; 0 before."""
        return self._epoch

    def check(self) -> None:
        """Raise `FencedError` if a newer incarnation exists; for writes elsewhere (a checkpoint)."""
        self._call("check", [], [])

    def pending(self, applied: Collection[str] = ()) -> Iterator[Entry]:
        """After `open`: the entries an earlier incarnation read and did not acknowledge, in their old order.

        applied: entry ids whose effect the loaded checkpoint holds; they are skipped. Those delivered more than
        `max_deliveries` times are dead-lettered instead. Lazy: asking for an entry says that those before are done.
        """
        for ids in self._pages_to_redeliver(applied):
            yield from _entries(self._redeliver(ids))
        self.put_down()

    def put_down(self) -> None:
        """The reader has nothing in hand any more, as after an orderly end."""
        self._redeliver(())

    def take_up(self, entry_ids: Sequence[str]) -> None:
        """The learner computes these entries from now on, and nothing else; what it had taken up before got through."""
        keys = [self._keys.trajectories, self._keys.learning]
        self._call("take_up", keys, [CONSUMER_GROUP, CONSUMER_NAME, *entry_ids])

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """Up to `count` new entries, in admission order; waits up to `block_ms` milliseconds for one."""
        deadline, poll = time.monotonic() + block_ms / 1000, FIRST_POLL_SECONDS
        while not (entries := self._read_now(count)) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(poll, left))
            poll = min(2 * poll, LONGEST_POLL_SECONDS)
        return entries

    def acknowledge(self, entry_ids: Iterable[str]) -> int:
        """Acknowledge entries whose effect a verified checkpoint holds. Returns how many were pending."""
        keys = [self._keys.trajectories, self._keys.entry_bytes, self._keys.counters]
        acknowledged = sum(
            self._call("acknowledge", keys, [CONSUMER_GROUP, *ids])
            for ids in _pages(dict.fromkeys(entry_ids), IDS_A_SCRIPT)
        )
        self._acknowledgements += 1
        return acknowledged

    @property
    def held(self) -> bool:
        """Whether reading has stopped at `unacked_bytes`: a read that began after the last `acknowledge` found no room.

        Reading and acknowledging may happen on two threads.
        """
        return self._held_after == self._acknowledgements

    def trim(self) -> int:
        """Delete the entries below the lowest pending or unread one; returns how many."""
        return self._call("trim", [self._keys.trajectories, self._keys.counters], [CONSUMER_GROUP])

    def dead_letter(self, entry_id: str, reason: str) -> bool:
        """Move a pending entry to the dead letters in one act; False if it is not pending (any more)."""
        keys = self._keys
        names = [keys.trajectories, keys.entry_bytes, keys.counters, keys.dead_letters, keys.lost]
        return bool(self._call("dead_letter", names, [CONSUMER_GROUP, entry_id, reason]))

    def lost(self, role: str, ordinals: Sequence[int]) -> set[int]:
        """Those of `ordinals` that were dead-lettered and not requeued: a batch need not wait for them."""
        if not ordinals:
            return set()
        members = [f"{role}:{ordinal}" for ordinal in ordinals]
        found = cast("list[int]", self._redis.smismember(self._keys.lost, members))
        return {ordinal for ordinal, is_lost in zip(ordinals, found, strict=True) if is_lost}

    def publish_version(self, lineage: int, step: int) -> None:
        """Record the newest published policy version."""
        self._call("set_fields", [self._keys.published], ["lineage", lineage, "step", step])

    def set_actuators(self, temperature: float, alpha: float, step: int, generation: int) -> None:
        """Set what rollouts that start from now on use; `step`: the learner step that decided it for."""
        fields = [
            "temperature",
            temperature,
            "alpha",
            alpha,
            "step",
            step,
            "set_point_generation",
            generation,
        ]
        self._call("set_fields", [self._keys.actuators], fields)

    def set_mixes(self, mixes: Mapping[int, StepMix]) -> None:
        """Tell generators the mixes of the steps that they may work on; those of long ago are forgotten."""
        self._call("set_fields", [self._keys.curriculum], encode_mixes(mixes))
        old = min(mixes) - MIXES_KEPT
        self._redis.hdel(self._keys.curriculum, *(str(step) for step in range(old - len(mixes), old)))

    def stats(self) -> QueueStats:
        """The queue's counters."""
        return queue_stats(self._redis, self._run_id)

    def _read_now(self, count: int) -> list[Entry]:
        keys = [
            self._keys.trajectories,
            self._keys.entry_bytes,
            self._keys.counters,
            self._keys.reading,
        ]
        entries: list[Entry] = []
        while (left := count - len(entries)) > 0:
            began_after = self._acknowledgements
            wanted = min(left, ENTRIES_A_SCRIPT)
            arguments = [
                CONSUMER_GROUP,
                CONSUMER_NAME,
                wanted,
                self._received,
                self._unacked_bytes,
                0 if entries else 1,
            ]
            held, rows = self._call("read", keys, arguments)
            self._held_after = began_after if held else None
            if not rows:
                break
            entries += _entries(rows)
            self._received = entries[-1].entry_id
        return entries

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
            if page and (deliveries > 1 or len(page) == ENTRIES_A_SCRIPT):
                yield page
                page = []
            page.append(entry_id)
            if deliveries > 1:
                yield page
                page = []
        if page:
            yield page

    def _pending_ids(self) -> Iterator[tuple[str, int]]:
        """Stream id and deliveries."""
        after = "-"
        while page := cast(
            "list[dict[str, Any]]",
            self._redis.xpending_range(
                self._keys.trajectories, CONSUMER_GROUP, min=after, max="+", count=IDS_A_SCRIPT
            ),
        ):
            for item in page:
                yield item["message_id"].decode(), item["times_delivered"]
            after = f"({page[-1]['message_id'].decode()}"

    def _call(self, name: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        if not self._epoch:
            raise RuntimeError("the replay consumer was not opened")
        fenced: Script = self._scripts[name]
        try:
            return fenced(keys=[self._keys.fence, *keys], args=[self._epoch, *arguments])
        except ResponseError as error:
            code, _, rest = str(error).partition(" ")
            if code == "FENCED":
                raise FencedError(self._epoch, int(rest.split()[0])) from error
            raise


def _entries(rows: Sequence[Sequence[Any]]) -> list[Entry]:
    return [
        Entry(
            entry_id.decode(),
            group_id.decode("utf-8", "replace"),
            producer_id.decode("utf-8", "replace"),
            data,
            deliveries,
        )
        for entry_id, group_id, producer_id, data, deliveries in rows
    ]


def _pages(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(ids)
    while page := list(islice(remaining, size)):
        yield page
