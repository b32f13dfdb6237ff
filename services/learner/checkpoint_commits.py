"""Rank 0's side of checkpoints: when one is due, what makes it real, and what it allows to be acknowledged.

What a checkpoint lists is acknowledged only when the next one is there: verified on the disk and, with
`checkpoint.mirror`, kept there too. Checkpoints are written behind the learner's back, so applied groups go on growing
meanwhile; what counts is what was applied when the snapshot was taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.learner.unacked_budget import UnackedRoom
from services.records.ledger import Ledger
from services.replay.consumer import ReplayConsumer
from trainer.checkpoint.mirror import CheckpointMirror
from trainer.checkpoint.store import CheckpointStore, LearnerState
from trainer.config import CheckpointConfig


class Commits:
    """The checkpoints of one learner incarnation. restored: the one that it goes on from."""

    def __init__(
        self,
        config: CheckpointConfig,
        store: CheckpointStore,
        mirror: CheckpointMirror | None,
        consumer: ReplayConsumer,
        ledger: Ledger,
        room: UnackedRoom,
        restored: LearnerState | None,
    ) -> None:
        self._config, self._store, self._mirror = config, store, mirror
        self._consumer, self._ledger, self._room = consumer, ledger, room
        self._consumed = list(restored.consumed) if restored else []
        self._listed = {entry_id for entry_id, _ in self._consumed}
        """entry ids that the newest checkpoint lists and that are not acknowledged before the next one is there"""
        self._in_flight: LearnerState | None = None
        self._durable: LearnerState | None = None
        """the one in flight, once it is there; set by the writer's thread"""
        self._begun_at = time.monotonic()

    @property
    def consumed(self) -> list[tuple[str, str]]:
        """(entry id, group id) of everything applied and not yet acknowledged."""
        return list(self._consumed)

    @property
    def in_flight(self) -> bool:
        """Whether one was begun and not settled."""
        return self._in_flight is not None

    def applied(self, consumed: Sequence[tuple[str, str]]) -> None:
        """Groups that the next checkpoint holds the effect of."""
        self._consumed += consumed

    def due_after(self, step: int) -> bool:
        """Whether one follows learner step `step`: by steps or by seconds, whichever comes first."""
        seconds = self._config.every_seconds
        late = seconds is not None and time.monotonic() - self._begun_at >= seconds
        return late or (step + 1) % self._config.every_steps == 0

    def begin(self, state: LearnerState) -> Callable[[], None]:
        """Take note of a snapshot; returns what makes it a checkpoint, once every rank has written its part.

        That may run on another thread. It raises FencedError when a newer learner has taken over, and ScopeError.
        """
        if self._in_flight is not None:
            raise RuntimeError(f"checkpoint {self._in_flight.step} is in flight, {state.step} cannot begin")
        self._in_flight, self._begun_at = state, time.monotonic()
        self._room.begun(state.step)

        def commit() -> None:
            self._ledger.sync()
            checkpoint = self._store.commit(state, self._consumer.check)
            if self._mirror is not None:
                self._mirror.put(checkpoint, state, self._store.spared, self._consumer.check)
                if self._store.best is not None:
                    self._mirror.put_best(self._store)
            self._durable = state

        return commit

    def settle(self) -> bool:
        """Acknowledge what the checkpoint in flight allows, if it is there; whether it was."""
        state = self._durable
        if state is None:
            return False
        self._consumer.acknowledge(sorted(self._listed))
        self._room.committed(state.step)
        self._consumer.trim()
        self._consumed = [pair for pair in self._consumed if pair[0] not in self._listed]
        self._listed = {entry_id for entry_id, _ in state.consumed} - self._listed
        self._in_flight = self._durable = None
        return True
