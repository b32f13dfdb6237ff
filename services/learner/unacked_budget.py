"""Keeps what is read and not acknowledged within `pipeline.unacked_bytes`, by checkpoints before their time.

A checkpoint lets the learner acknowledge what the one before it lists, so one frees nothing by itself: from half the
cap on, one is due at every step boundary, and two steps' checkpoints free all that was consumed before them. Reading
stops at the cap itself. Where a step then lacks groups although its boundary has its checkpoint, nothing can help.
"""

from __future__ import annotations

from services.replay.consumer import ReplayConsumer
from trainer.checkpoint.store import LearnerState
from trainer.errors import ScopeError


class UnackedRoom:
    """The room of one learner incarnation. cap: bytes; restored: the checkpoint that it goes on from."""

    def __init__(self, consumer: ReplayConsumer, cap: int, restored: LearnerState | None) -> None:
        self._consumer, self._cap = consumer, cap
        self._begun = self._committed = restored.step if restored else -1

    def begun(self, step: int) -> None:
        """The checkpoint of the boundary before `step` is being written."""
        self._begun = step

    def committed(self, step: int) -> None:
        """The checkpoint of the boundary before `step` is there, and what it allows is acknowledged."""
        self._committed = step

    def wants_checkpoint(self, step: int) -> bool:
        """Whether one is due at the boundary before `step`, whatever `checkpoint.every_steps` says."""
        if self._begun == step:
            return False
        return self._consumer.held or self._consumer.stats().unacknowledged_bytes > self._cap // 2

    def can_wait(self, step: int) -> bool:
        """Whether groups of `step` may still arrive; False where a checkpoint must make room first.

        One that is being written will make it. Raises ScopeError where it was made and there is no room all the same.
        """
        if not self._consumer.held:
            return True
        if self._begun != step:
            return False
        if self._committed != step:
            return True
        raise ScopeError(
            f"pipeline.unacked_bytes={self._cap:,} is too small: what was read for learner step {step} and the steps "
            "after it fills it, together with what the newest checkpoint still needs. Raise it, or lower "
            "pipeline.max_staleness, and go on with --resume."
        )
