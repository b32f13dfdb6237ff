"""Rank 0's side of checkpoints: when one is due, what commits it, and what it lets the queue acknowledge.

Entries that a checkpoint lists are acknowledged when the next checkpoint is committed: verified on disk and, with
`checkpoint.mirror`, uploaded. Checkpoints are written while the learner continues, so a checkpoint lists what was
applied when its snapshot was taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.learner.unacked_budget import UnackedBudget
from services.records.ledger import Ledger
from services.replay.consumer import ReplayConsumer
from trainer.checkpoint.mirror import CheckpointMirror
from trainer.checkpoint.store import CheckpointStore, LearnerState
from trainer.config import CheckpointConfig


class CheckpointCommits:
    """The checkpoints of one learner incarnation. restored: state of the checkpoint that it continues from."""

    def __init__(
        self,
        config: CheckpointConfig,
        store: CheckpointStore,
        mirror: CheckpointMirror | None,
        consumer: ReplayConsumer,
        ledger: Ledger,
        budget: UnackedBudget,
        restored: LearnerState | None,
    ) -> None:
        self._config, self._store, self._mirror = config, store, mirror
        self._consumer, self._ledger, self._budget = consumer, ledger, budget
        self._consumed = list(restored.consumed) if restored else []
        self._listed = {entry_id for entry_id, _ in self._consumed}
        """entry ids that the newest committed checkpoint lists and that the next one lets the queue acknowledge"""
        self._in_flight: LearnerState | None = None
        self._committed: LearnerState | None = None
        """the state in flight once it is committed; set by the writer's thread"""
        self._begun_at = time.monotonic()

    @property
    def consumed(self) -> list[tuple[str, str]]:
        """(entry id, group id) of everything applied and not acknowledged."""
        return list(self._consumed)

    @property
    def in_flight(self) -> bool:
        """Whether a checkpoint was begun and is not settled."""
        return self._in_flight is not None

    def applied(self, consumed: Sequence[tuple[str, str]]) -> None:
        """Record (entry id, group id) of the groups whose effect the next checkpoint holds."""
        self._consumed += consumed

    def due_after(self, step: int) -> bool:
        """Whether a checkpoint follows learner step `step`: by steps or by seconds, whichever comes first."""
        seconds = self._config.every_seconds
        late = seconds is not None and time.monotonic() - self._begun_at >= seconds
        return late or (step + 1) % self._config.every_steps == 0

    def begin(self, state: LearnerState) -> Callable[[], None]:
        """Record a snapshot; returns the commit, to be called once every rank has written its part.

        The commit may run on another thread. It raises FencedError when a newer learner has taken over, and ScopeError
        when the checkpoint does not verify or cannot be uploaded to the mirror. Call `settle` after it.
        """
        if self._in_flight is not None:
            raise RuntimeError(f"checkpoint {self._in_flight.step} is in flight, {state.step} cannot begin")
        self._in_flight, self._begun_at = state, time.monotonic()
        self._budget.checkpoint_begun(state.step)

        def commit() -> None:
            self._ledger.sync()
            checkpoint = self._store.commit(state, self._consumer.check)
            if self._mirror is not None:
                self._mirror.put(checkpoint, state, self._store.spared, self._consumer.check)
                if self._store.best is not None:
                    self._mirror.put_best(self._store)
            self._committed = state

        return commit

    def settle(self) -> bool:
        """If the checkpoint in flight is committed, acknowledge what it allows; returns whether it was."""
        state = self._committed
        if state is None:
            return False
        self._consumer.acknowledge(sorted(self._listed))
        self._budget.checkpoint_committed(state.step)
        self._consumer.trim()
        self._consumed = [pair for pair in self._consumed if pair[0] not in self._listed]
        self._listed = {entry_id for entry_id, _ in state.consumed} - self._listed
        self._in_flight = self._committed = None
        return True
