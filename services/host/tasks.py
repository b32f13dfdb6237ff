"""Asyncio tasks that run side by side, whose failures their owner raises when it looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class TasksInFlight:
    """The tasks of one owner on one event loop."""

    def __init__(self, on_done: Callable[[], None] = lambda: None) -> None:
        """on_done: called when a task ends, however it ends."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_done = on_done

    def __len__(self) -> int:
        """Tasks that have not ended, or whose end `raise_failures` has not seen yet."""
        return len(self._tasks)

    @property
    def running(self) -> int:
        """Tasks that have not ended."""
        return sum(not task.done() for task in self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._on_done())

    def raise_failures(self) -> None:
        """Forget the tasks that have ended; raise what one of them failed with."""
        for task in [t for t in self._tasks if t.done()]:
            self._tasks.discard(task)
            task.result()

    def cancel(self) -> None:
        """Cancel every task."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until every task has ended, however it ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
