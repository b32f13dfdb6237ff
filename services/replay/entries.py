"""Entries of the replay queue as the learner reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_GROUP_ID = re.compile(r"[a-z]+:[0-9]{1,18}:[0-9]{1,18}")


class Entry(msgspec.Struct, frozen=True):
    """One stream entry: an encoded group. Its ids are known even where its data cannot be decoded."""

    entry_id: str
    """stream id; rises in admission order"""
    group_id: str
    """role:ordinal:attempt"""
    producer_id: str
    data: bytes
    deliveries: int
    """1, plus 1 for each learner that died while it read or learned from the group since a step with it succeeded"""

    def __repr__(self) -> str:
        return (
            f"Entry({self.entry_id}, {self.group_id!r}, {len(self.data)} bytes, delivery {self.deliveries})"
        )

    @property
    def place(self) -> tuple[str, int] | None:
        """Role and ordinal, which name a place in a learner step; None for an entry that `add` did not write."""
        return (self.role, self.ordinal) if self.added else None

    @property
    def added(self) -> bool:
        """Whether `add` wrote the entry, as its group id shows."""
        return _GROUP_ID.fullmatch(self.group_id) is not None

    @property
    def role(self) -> str:
        """The role that made the group."""
        return self.group_id.split(":")[0]

    @property
    def ordinal(self) -> int:
        """The group's position in its role's data cursor."""
        return int(self.group_id.split(":")[1])

    @property
    def attempt(self) -> int:
        """How often the group was requeued from the dead letters."""
        return int(self.group_id.split(":")[2])


def decode_entry(
    entry_id: bytes, group_id: bytes, producer_id: bytes, data: bytes, deliveries: int = 1
) -> Entry:
    """An entry from Redis's bytes. Ids that are not UTF-8, which `add` never writes, get replacement characters."""
    return Entry(
        entry_id.decode(),
        group_id.decode("utf-8", "replace"),
        producer_id.decode("utf-8", "replace"),
        data,
        deliveries,
    )


def decode_fields(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry at its first delivery, from its fields: by position, since something other than `add` may name them."""
    values = tuple(fields.values())
    group_id, producer_id, data = values if len(values) == 3 else (*values, b"", b"", b"")[:3]
    return decode_entry(entry_id, group_id, producer_id, data)
