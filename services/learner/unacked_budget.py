"""Keeps the bytes that are read and not acknowledged within `pipeline.unacked_bytes`, by early checkpoints.

A checkpoint lets the learner acknowledge what the checkpoint before it lists, so a single one frees nothing. From half
of the budget on, a checkpoint is therefore due at every step boundary; those of two boundaries free everything consumed
before the first. Reading stops at the budget itself. If a step still lacks groups then, and its boundary has its
checkpoint, the budget is too small for the run.
"""

from __future__ import annotations

from services.replay.consumer import ReplayConsumer
from trainer.checkpoint.store import LearnerState
from trainer.errors import ScopeError


class UnackedBudget:
    """The budget of one learner incarnation. limit: bytes; restored: state of the checkpoint that it continues from."""

    def __init__(self, consumer: ReplayConsumer, limit: int, restored: LearnerState | None) -> None:
        self._consumer, self._limit = consumer, limit
        self._begun = self._committed = restored.step if restored else -1

    def checkpoint_begun(self, step: int) -> None:
        """Note that the checkpoint at the boundary before `step` is being written."""
        self._begun = step

    def checkpoint_committed(self, step: int) -> None:
        """Note that the checkpoint at the boundary before `step` exists and what it allows is acknowledged."""
        self._committed = step

    def checkpoint_due(self, step: int) -> bool:
        """Whether the boundary before `step` needs a checkpoint, regardless of `checkpoint.every_steps`."""
        if self._begun == step:
            return False
        exhausted = self._consumer.budget_exhausted
        return exhausted or self._consumer.stats().unacknowledged_bytes > self._limit // 2

    def can_wait(self, step: int) -> bool:
        """Whether groups of `step` may still arrive; False if a checkpoint at its boundary must free bytes first.

        Raises ScopeError if that checkpoint exists and the budget is exhausted nevertheless.
        """
        if not self._consumer.budget_exhausted:
            return True
        if self._begun != step:
            return False
        if self._committed != step:
            return True
        raise ScopeError(
            f"pipeline.unacked_bytes={self._limit:,} is too small: the groups read for learner step {step} and the "
            "steps after it fill it, together with those that the newest checkpoint still needs. Raise it, or lower "
            "pipeline.max_staleness, and continue with --resume."
        )
