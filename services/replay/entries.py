"""What the learner reads from the replay queue."""

from __future__ import annotations

import re

import msgspec

_GROUP_ID = re.compile(r"[a-z]+:[0-9]{1,18}:[0-9]{1,18}")


class Entry(msgspec.Struct, frozen=True):
    """One stream entry: an encoded group. Its identity is known even where its data cannot be decoded."""

    entry_id: str
    """stream id; in admission order"""
    group_id: str
    """role:ordinal:attempt"""
    producer_id: str
    data: bytes
    deliveries: int
    """1, and 1 more for each learner that died with it in hand since it last got through a step"""

    def __repr__(self) -> str:
        return (
            f"Entry({self.entry_id}, {self.group_id!r}, {len(self.data)} bytes, delivery {self.deliveries})"
        )

    @property
    def place(self) -> tuple[str, int] | None:
        """Role and ordinal; None for an entry that something else than `add` has put into the stream."""
        return (self.role, self.ordinal) if self.added else None

    @property
    def added(self) -> bool:
        """Whether `add` has put it into the stream, by its group id."""
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
        """0, or how often the group was requeued from the dead letters."""
        return int(self.group_id.split(":")[2])
