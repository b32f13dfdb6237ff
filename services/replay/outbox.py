"""Sends finished groups to the queue; groups that are ready at the same time share a round trip."""

from __future__ import annotations

import asyncio
import random

from services.replay.producer import AddOutcome, Finished, ReplayProducer
from trainer.roles import Role

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 1.0
BATCH_GROUPS, BATCH_BYTES = 64, 1 << 20
"""Limits of one round trip, so that Redis soon serves others; a larger group is sent alone."""


class Outbox:
    """Sends the groups of one generator. A batch holds the groups that became ready while the last one was sent."""

    def __init__(self, producer: ReplayProducer, role: Role, producer_id: str) -> None:
        self._producer, self._producer_id = producer, producer_id
        self._role: Role = role
        self._pending: list[tuple[Finished, asyncio.Future[AddOutcome]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def put(self, group: Finished) -> AddOutcome:
        """Add a group, retrying while the queue is full. Returns "added" or "duplicate".

        The caller keeps renewing the lease. A cancelled call may still add the group. Raises ValueError for an ordinal
        that was never leased, and Redis's errors.
        """
        wait = FIRST_WAIT_SECONDS
        while (outcome := await self._once(group)) == "full":
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        if outcome == "unleased":
            raise ValueError(
                f"group {self._role}:{group.ordinal} was never leased: the data cursor has not reached it"
            )
        return outcome

    async def end(self) -> None:
        """Cancel the groups that wait. Those being sent may be added or not."""
        # The client may not notice a cancellation after its reply has come.
        for _, answer in self._pending:
            answer.cancel()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _once(self, group: Finished) -> AddOutcome:
        answer: asyncio.Future[AddOutcome] = asyncio.get_running_loop().create_future()
        self._pending.append((group, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        """Send the pending groups, batch by batch. An error is raised to the callers whose groups were in the batch."""
        while batch := self._next_batch():
            try:
                outcomes = await self._producer.add(
                    self._role, self._producer_id, [group for group, _ in batch]
                )
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)

    def _next_batch(self) -> list[tuple[Finished, asyncio.Future[AddOutcome]]]:
        """Take a batch off the pending groups; groups whose caller was cancelled are dropped."""
        batch, size = [], 0
        self._pending = [entry for entry in self._pending if not entry[1].done()]
        for entry in self._pending[:BATCH_GROUPS]:
            size += len(entry[0].data)
            if batch and size > BATCH_BYTES:
                break
            batch.append(entry)
        del self._pending[: len(batch)]
        return batch
