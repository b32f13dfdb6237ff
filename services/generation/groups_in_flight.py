"""The groups that a generator works on: their tasks, their leases, and those among them that the engine samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class GroupsInFlight:
    """Bounds the groups that are sampled at once, and tells when a slot is free. Used on one event loop."""

    def __init__(self, limit: int, on_done: Callable[[], None]) -> None:
        """limit: groups that the engine samples at once. on_done: called when a task ends, however it ends."""
        self._limit, self._on_done = limit, on_done
        self._tasks: set[asyncio.Task[None]] = set()
        self.leased: set[int] = set()
        """ordinals whose leases are to be renewed"""
        self.sampling: set[int] = set()
        """ordinals that the engine samples, or will soon; again while a group is refilled"""

    def __len__(self) -> int:
        """Tasks that have not ended, or whose end `raise_failures` has not seen yet."""
        return len(self._tasks)

    @property
    def free_slots(self) -> int:
        """Groups that may be started now. Besides those that are sampled, `limit` more may be scored or wait."""
        return min(self._limit - len(self.sampling), 2 * self._limit - len(self._tasks))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, on one group or several, as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._on_done())

    def raise_failures(self) -> None:
        """Forget the tasks that have ended; raise what one of them failed with."""
        for task in [t for t in self._tasks if t.done()]:
            self._tasks.discard(task)
            task.result()

    def cancel(self) -> None:
        """Cancel every task; the leases expire."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until every task has ended, however it ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
