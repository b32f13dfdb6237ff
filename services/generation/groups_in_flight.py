"""The groups that a generator works on: their tasks, their leases, and those among them that the engine samples."""

from __future__ import annotations

from collections.abc import Callable

from services.host.tasks import TasksInFlight


class GroupsInFlight(TasksInFlight):
    """Bounds the groups that are sampled at once, and tells when a slot is free. A task is one group, or several."""

    def __init__(self, limit: int, on_done: Callable[[], None]) -> None:
        """limit: groups that the engine samples at once. on_done: called when a task ends, however it ends."""
        super().__init__(on_done)
        self._limit = limit
        self.leased: set[int] = set()
        """ordinals whose leases are to be renewed"""
        self.sampling: set[int] = set()
        """ordinals that the engine samples, or will soon; again while a group is refilled"""

    @property
    def free_slots(self) -> int:
        """Number of groups that may be started. Besides those being sampled, `limit` more may be scored or wait."""
        return min(self._limit - len(self.sampling), 2 * self._limit - len(self))
