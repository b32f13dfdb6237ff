"""What the learner reads from the replay queue, and its decoding into groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trainer.trajectory import Group, TrajectoryError, decode_group


@dataclass(frozen=True)
class Entry:
    """One stream entry: an encoded group. Its identity is known even where its data cannot be decoded."""

    entry_id: str
    """stream id; in admission order"""
    group_id: str
    """role:ordinal:attempt"""
    producer_id: str
    data: bytes = field(repr=False)
    deliveries: int
    """how often a learner incarnation got it, this time included"""

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


def decode_entries(
    entries: Iterable[Entry], size_cap: int
) -> tuple[list[tuple[Entry, Group]], list[tuple[Entry, str]]]:
    """Decode `entries`: (good ones with their groups, bad ones with the reason to dead-letter them).

    An entry whose data belongs to another group id is bad.
    """
    groups: list[tuple[Entry, Group]] = []
    rejects: list[tuple[Entry, str]] = []
    for entry in entries:
        try:
            group = decode_group(entry.data, size_cap=size_cap)
        except TrajectoryError as error:
            rejects.append((entry, f"undecodable: {error}"))
            continue
        if group.group_id == entry.group_id:
            groups.append((entry, group))
        else:
            rejects.append((entry, f"undecodable: entry {entry.group_id} holds group {group.group_id}"))
    return groups, rejects
