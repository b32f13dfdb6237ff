"""Reading new entries of the stream, once each, within the budget of unacknowledged bytes.

New entries are delivered by a plain XREADGROUP, because a script would copy every payload three more times. XREADGROUP
is not fenced, so its entries count as read only when the script `record_read`, which is fenced, has recorded them.
Entries that were delivered and not recorded, because a reply was lost or the reader was fenced off, come first in the
next read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from services.redis.fencing import fenced_error
from services.redis.keys import CONSUMER_GROUP, CONSUMER_NAME, RunKeys
from services.redis.scripts import script_text
from services.replay.entries import Entry, decode_fields

ENTRIES_PER_ROUND_TRIP = 64
"""Limits how long one command occupies Redis."""
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.002, 0.05


class _ReadReply(NamedTuple):
    """The result of one round trip."""

    over_budget: int
    """1 if the next entry would exceed the budget"""
    readable: int
    """unread entries that the budget admits"""
    missed: list[bytes]
    """ids of older entries that must be recorded first; where there are some, nothing was recorded"""
    delivered: list[Entry]
    """delivered by this round trip and not recorded yet"""


class StreamReader:
    """Reads for a learner incarnation, after `begin`. One thread reads at a time.

    unacked_bytes: no entry is read that would bring the read and unacknowledged bytes above it; None: no limit.
    """

    def __init__(self, redis: Redis, keys: RunKeys, unacked_bytes: int | None) -> None:
        self._redis, self._keys = redis, keys
        self._unacked_bytes = "" if unacked_bytes is None else unacked_bytes
        self._record_read = redis.register_script(script_text("services.replay", "record_read"))
        self._last_id = "0-0"
        """newest stream id that reached the reader, or that an earlier incarnation read"""
        self._readable = 0
        """unread entries that the budget admits, as the newest read saw it"""
        self._releases = 0
        self._exhausted_at: int | None = None
        """`_releases` when the newest read began, if the budget admitted nothing; else None"""

    def begin(self, last_read: str) -> None:
        """Begin for a new incarnation. last_read: newest stream id that an earlier one has read."""
        self._last_id, self._readable = last_read, 0

    @property
    def budget_exhausted(self) -> bool:
        """Whether the budget admitted no entry to a read that began after the last `budget_released`.

        The budget may be released on another thread than the one that reads.
        """
        return self._exhausted_at == self._releases

    def budget_released(self) -> None:
        """Note that entries were acknowledged."""
        self._releases += 1

    def read(self, epoch: int, count: int, block_ms: int) -> list[Entry]:
        """Up to `count` new entries, in admission order; waits up to `block_ms` milliseconds for the first.

        Raises FencedError when `epoch` is not that of the newest incarnation. It polls: a blocking XREADGROUP of a
        learner that is suspended would take entries whenever it resumes.
        """
        deadline, poll = time.monotonic() + block_ms / 1000, FIRST_POLL_SECONDS
        while not (entries := self._read_now(epoch, count)) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(poll, left))
            poll = min(2 * poll, LONGEST_POLL_SECONDS)
        return entries

    def _read_now(self, epoch: int, count: int) -> list[Entry]:
        entries: list[Entry] = []
        delivered: list[Entry] = []
        # Until this read succeeds nothing counts as received, and nothing is known to be readable.
        last_id, readable, self._readable = self._last_id, self._readable, 0
        while True:
            releases, wanted = self._releases, count - len(entries)
            more = min(wanted - len(delivered), readable - len(delivered), ENTRIES_PER_ROUND_TRIP)
            reply = self._round_trip(epoch, delivered, more, wanted, last_id, first=not entries)
            self._exhausted_at, readable = releases if reply.over_budget else None, reply.readable
            if reply.missed:
                delivered = self._fetch(reply.missed)
                continue
            entries += delivered
            last_id = entries[-1].entry_id if entries else last_id
            delivered = reply.delivered
            if not delivered and (more > 0 or not readable or len(entries) == count):
                self._last_id, self._readable = last_id, readable
                return entries

    def _round_trip(
        self, epoch: int, delivered: Sequence[Entry], more: int, wanted: int, last_id: str, *, first: bool
    ) -> _ReadReply:
        """Record `delivered` as read, see `record_read.lua`, and take up to `more` new entries.

        wanted: entries that the read still lacks; last_id: newest stream id that reached the reader; first:
        whether this read has recorded nothing yet.
        """
        names = [self._keys.fence, self._keys.trajectories, self._keys.counters, self._keys.reading]
        uncounted = [len(entry.data) for entry in delivered if not entry.added]
        arguments: list[str | int] = [epoch, CONSUMER_GROUP, min(wanted, ENTRIES_PER_ROUND_TRIP), last_id]
        arguments += [self._unacked_bytes, int(first), sum(len(entry.data) for entry in delivered)]
        arguments += [len(uncounted), sum(uncounted), *(entry.entry_id for entry in delivered)]
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.evalsha(self._record_read.sha, len(names), *names, *arguments)
            if more > 0:
                pipeline.xreadgroup(CONSUMER_GROUP, CONSUMER_NAME, {self._keys.trajectories: ">"}, count=more)
            replies = cast("list[Any]", pipeline.execute(raise_on_error=False))
        if isinstance(replies[0], NoScriptError):
            # What XREADGROUP delivered meanwhile is found as missed.
            self._redis.script_load(self._record_read.script)
            return self._round_trip(epoch, delivered, 0, wanted, last_id, first=first)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise fenced_error(reply, epoch) or reply
        streams = replies[1] if more > 0 else []
        found = [decode_fields(*item) for item in streams[0][1]] if streams else []
        over_budget, readable, missed = replies[0]
        return _ReadReply(over_budget, readable, missed, found)

    def _fetch(self, ids: Sequence[bytes]) -> list[Entry]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.xrange(self._keys.trajectories, entry_id, entry_id)
            found = cast("list[Any]", pipeline.execute())
        for entry_id, items in zip(ids, found, strict=True):
            if not items:
                raise ResponseError(
                    f"LOST entry {entry_id.decode()} is pending but was deleted from the stream"
                )
        return [decode_fields(*items[0]) for items in found]
