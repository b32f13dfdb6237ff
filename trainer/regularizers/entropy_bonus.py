"""Entropy bonus: loss - c * H, H the mean entropy of the current policy over base tokens, with its gradient.

The classical method (Williams & Peng 1991; A3C, arXiv 1602.01783). H is exact over the vocabulary at temperature 1, the
same quantity as the policy entropy of the entropy target. The strength is c.
"""

from __future__ import annotations

from trainer.regularizers.base import Regularizer


class EntropyBonus(Regularizer):
    """Applies to every base token, including those with advantage 0."""

    def entropy_coefficient(self, strength: float) -> float:
        return strength
