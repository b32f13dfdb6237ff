"""Fencing: only the newest learner incarnation may write to Redis."""

from __future__ import annotations


class FencedError(RuntimeError):
    """A write by a learner incarnation that a newer one has replaced; nothing was written."""

    def __init__(self, epoch: int, current: int) -> None:
        self.epoch, self.current = epoch, current
        super().__init__(
            f"learner epoch {epoch} may not write: epoch {current} is in force. Another learner has "
            "taken over this run; this one must stop."
        )

    def __reduce__(self) -> tuple[type[FencedError], tuple[int, int]]:
        """It crosses from a learner's process to the driver's."""
        return FencedError, (self.epoch, self.current)
