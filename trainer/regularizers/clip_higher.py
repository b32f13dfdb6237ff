"""Clip-higher: a larger upper clipping bound, so that rare tokens can gain more probability (DAPO, arXiv 2503.14476).

The strength is the upper half-width.
"""

from __future__ import annotations

from trainer.config.regularizer import ClipHigherConfig
from trainer.regularizers.base import ClipRange, Regularizer


class ClipHigher(Regularizer):
    """Replaces `loss.clip_low` and `loss.clip_high` on base rollouts."""

    def __init__(self, config: ClipHigherConfig) -> None:
        self._low = config.low

    def clip_range(self, strength: float) -> ClipRange:
        return ClipRange(self._low, strength)
