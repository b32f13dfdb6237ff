"""Learner's side of the replay queue, for rank 0 only: read, acknowledge, trim, dead-letter, publish.

Every write carries the epoch of this learner incarnation; Redis refuses it once a newer one has opened the
queue. A call may be retried after a lost reply: none takes effect twice, and no entry is lost on the way.

New entries are read by a plain XREADGROUP, since a script would copy every payload three times more. It moves entries
to the reader and knows no fence. They reach the reader once a script that does has entered them into the books; what
was taken by an incarnation that is fenced off, or while a reply got lost, comes first in the next read.

Redis knows what the learner has in hand: the entries of the newest reading call, and the groups of the step that it
computes. Only those are suspected when it dies. A suspect is delivered alone the next time, so that one that kills its
reader soon stands alone; a step that gets through clears its groups.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from services.redis.fencing import call_fenced, fenced_error
from services.redis.keys import CONSUMER_GROUP, CONSUMER_NAME, RunKeys
from services.redis.scripts import script_text
from services.replay.actuators import encode_mixes
from services.replay.entries import Entry
from services.replay.stats import QueueStats, queue_stats
from trainer.rollouts.curriculum import StepMix

ENTRIES_A_TRIP = 64
"""Entries that Redis hands out at once, so that it answers others meanwhile."""
IDS_A_SCRIPT = 1000
MIXES_KEPT = 64
"""learner steps behind the oldest that may be worked on"""
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.002, 0.05


class _Trip(NamedTuple):
    """What one round trip of a read brings."""

    held: int
    """1 if the next entry would exceed the cap of unacknowledged bytes"""
    room: int
    """entries that may be taken yet"""
    missed: list[bytes]
    """ids that come first, and keep those taken out of the books"""
    found: list[Entry]
    """taken in this trip, in no book yet"""


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
        self._epoch, self._received, self._inherited = 0, "0-0", "0-0"
        self._room = 0
        """entries that are in the queue and that the cap allows to take, as the newest read saw it"""
        self._sizes: dict[str, int] = {}
        """bytes of each entry that was delivered and is not acknowledged"""
        self._acknowledgements = 0
        self._held_after: int | None = None
        """acknowledgements done when a read began that found no room; None where the newest read found some"""
        self._open = redis.register_script(script_text("services.replay", "open"))
        names = (
            "check",
            "record_read",
            "redeliver",
            "mark_learning",
            "acknowledge",
            "dead_letter",
            "trim",
            "set_fields",
        )
        self._scripts = {name: redis.register_script(script_text("services.replay", name)) for name in names}

    def open(self) -> int:
        """Begin a learner incarnation; returns its epoch. Every earlier one is fenced off from now on.

        What the last one had in hand counts one more delivery.
        """
        keys = self._keys
        names = [keys.fence, keys.trajectories, keys.counters, keys.reading, keys.learning]
        reply = self._open(keys=names, args=[CONSUMER_GROUP, CONSUMER_NAME])
        self._epoch, newest = cast("tuple[int, bytes]", reply)
        self._received = self._inherited = newest.decode()
        self._room = 0
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
            for row in self._redeliver(ids):
                yield self._delivered(*row)
        self.put_down()

    def put_down(self) -> None:
        """The reader has nothing in hand any more, as after an orderly end."""
        self._redeliver(())

    def take_up(self, entry_ids: Sequence[str]) -> None:
        """The learner computes these entries from now on, and nothing else; what it had taken up before got through."""
        keys = [self._keys.trajectories, self._keys.learning]
        self._call("mark_learning", keys, [CONSUMER_GROUP, CONSUMER_NAME, *entry_ids])

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """Up to `count` new entries, in admission order; waits up to `block_ms` milliseconds for one."""
        deadline, poll = time.monotonic() + block_ms / 1000, FIRST_POLL_SECONDS
        while not (entries := self._read_now(count)) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(poll, left))
            poll = min(2 * poll, LONGEST_POLL_SECONDS)
        return entries

    def acknowledge(self, entry_ids: Iterable[str]) -> int:
        """Acknowledge entries whose effect a verified checkpoint holds. Returns how many were pending."""
        acknowledged = 0
        for ids in _pages(dict.fromkeys(entry_ids), IDS_A_SCRIPT):
            # Forgotten before the call: what a lost reply leaves in doubt is looked at one by one the next time.
            sizes = {entry_id: self._sizes.pop(entry_id) for entry_id in ids if entry_id in self._sizes}
            unknown = [entry_id for entry_id in ids if entry_id not in sizes]
            for size, some in ((sum(sizes.values()), list(sizes)), ("", unknown)):
                if some:
                    names = [self._keys.trajectories, self._keys.counters]
                    acknowledged += self._call("acknowledge", names, [CONSUMER_GROUP, size, *some])
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
            "entropy_target_generation",
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
        entries: list[Entry] = []
        taken: list[Entry] = []
        # Nothing has reached the reader, and no room is known, if a reply gets lost on the way.
        received, room, self._room = self._received, self._room, 0
        while True:
            began_after, left = self._acknowledgements, count - len(entries)
            more = min(left - len(taken), room - len(taken), ENTRIES_A_TRIP)
            trip = self._trip(taken, more, left, received, begins=not entries)
            self._held_after, room = began_after if trip.held else None, trip.room
            if trip.missed:
                taken = self._entries(trip.missed)
                continue
            entries += taken
            received = entries[-1].entry_id if entries else received
            taken = trip.found
            if not taken and (more > 0 or not room or len(entries) == count):
                self._received, self._room = received, room
                return entries

    def _trip(self, taken: Sequence[Entry], more: int, left: int, received: str, *, begins: bool) -> _Trip:
        """Enter what was taken into the books, see `record_read.lua`, and take up to `more` new entries.

        left: entries that are wanted yet; received: stream id of the newest that reached the reader. A blocking
        XREADGROUP would not do: that of a frozen learner would take entries at any time later.
        """
        self._check_opened()
        keys, enter = self._keys, self._scripts["record_read"]
        names = [keys.fence, keys.trajectories, keys.counters, keys.reading]
        uncounted = [len(entry.data) for entry in taken if not entry.added]
        arguments: list[str | int] = [self._epoch, CONSUMER_GROUP, min(left, ENTRIES_A_TRIP), received]
        arguments += [self._unacked_bytes, int(begins), sum(len(entry.data) for entry in taken)]
        arguments += [len(uncounted), sum(uncounted), *(entry.entry_id for entry in taken)]
        with self._redis.pipeline(transaction=False) as trip:
            trip.evalsha(enter.sha, len(names), *names, *arguments)
            if more > 0:
                trip.xreadgroup(CONSUMER_GROUP, CONSUMER_NAME, {keys.trajectories: ">"}, count=more)
            replies = cast("list[Any]", trip.execute(raise_on_error=False))
        if isinstance(replies[0], NoScriptError):
            self._redis.script_load(enter.script)
            return self._trip(taken, 0, left, received, begins=begins)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise fenced_error(reply, self._epoch) or reply
        streams = replies[1] if more > 0 else []
        found = [self._entry(*item) for item in streams[0][1]] if streams else []
        held, room, missed = replies[0]
        return _Trip(held, room, missed, found)

    def _entries(self, ids: Sequence[bytes]) -> list[Entry]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.xrange(self._keys.trajectories, entry_id, entry_id)
            found = cast("list[Any]", pipeline.execute())
        for entry_id, items in zip(ids, found, strict=True):
            if not items:
                raise ResponseError(
                    f"LOST entry {entry_id.decode()} is pending but was deleted from the stream"
                )
        return [self._entry(*items[0]) for items in found]

    def _entry(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
        """Identities are text whatever bytes something else than `add` has put into the stream, in whatever fields."""
        values = tuple(fields.values())
        group_id, producer_id, data = values if len(values) == 3 else (*values, b"", b"", b"")[:3]
        return self._delivered(entry_id, group_id, producer_id, data, deliveries=1)

    def _delivered(
        self, entry_id: bytes, group_id: bytes, producer_id: bytes, data: bytes, deliveries: int
    ) -> Entry:
        entry = Entry(
            entry_id.decode(),
            group_id.decode("utf-8", "replace"),
            producer_id.decode("utf-8", "replace"),
            data,
            deliveries,
        )
        self._sizes[entry.entry_id] = len(data)
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
            if page and (deliveries > 1 or len(page) == ENTRIES_A_TRIP):
                yield page
                page = []
            page.append(entry_id)
            if deliveries > 1:
                yield page
                page = []
        if page:
            yield page

    def _pending_ids(self) -> Iterator[tuple[str, int]]:
        """Stream id and deliveries of what an earlier incarnation read and entered into the books."""
        after = "-"
        while page := cast(
            "list[dict[str, Any]]",
            self._redis.xpending_range(
                self._keys.trajectories, CONSUMER_GROUP, min=after, max=self._inherited, count=IDS_A_SCRIPT
            ),
        ):
            for item in page:
                yield item["message_id"].decode(), item["times_delivered"]
            after = f"({page[-1]['message_id'].decode()}"

    def _call(self, name: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        self._check_opened()
        return call_fenced(self._scripts[name], self._keys.fence, self._epoch, keys, arguments)

    def _check_opened(self) -> None:
        if not self._epoch:
            raise RuntimeError("the replay consumer was not opened")


def _pages(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(ids)
    while page := list(islice(remaining, size)):
        yield page
