"""Finished groups on their way into the queue: those that are ready at the same time share a round trip."""

from __future__ import annotations

import asyncio
import random

from services.replay.producer import AddOutcome, Finished, ReplayProducer
from trainer.roles import Role

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 1.0
BATCH_GROUPS, BATCH_BYTES = 64, 1 << 20
"""of a round trip, so that Redis answers others soon; one larger group goes alone"""


class Outbox:
    """One generator's way into the queue. Nothing waits for company: a batch is what came while the last one went."""

    def __init__(self, producer: ReplayProducer, role: Role, producer_id: str) -> None:
        self._producer, self._producer_id = producer, producer_id
        self._role: Role = role
        self._pending: list[tuple[Finished, asyncio.Future[AddOutcome]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def put(self, group: Finished) -> AddOutcome:
        """Add a group, again and again while the queue is full: "added" or "duplicate".

        The caller keeps renewing the lease; cancelled, it may find the group in the queue all the same. Raises
        ValueError for an ordinal that was never leased, and what Redis raises.
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
        """Give up what waits; what is under way may arrive or not."""
        # The client may not take notice of a cancellation whose reply has come.
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
        """Send what is pending, batch by batch. An error is told to those whose groups it concerns."""
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
        """Off the pending ones, those left out whose caller is gone."""
        batch, size = [], 0
        self._pending = [entry for entry in self._pending if not entry[1].done()]
        for entry in self._pending[:BATCH_GROUPS]:
            size += len(entry[0].data)
            if batch and size > BATCH_BYTES:
                break
            batch.append(entry)
        del self._pending[: len(batch)]
        return batch
