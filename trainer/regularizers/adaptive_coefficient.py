"""Adaptive coefficient of the entropy bonus (Skywork-OR1, arXiv 2505.22312; TRL's `entropy_target`).

    c += delta  where H <= H0,  else  c -= delta;  c in [0, maximum];  applied: c where H <= H0, else 0

The bonus itself is `EntropyBonus`. H is the entropy of the previous step, because rank 0 sets the strength between
steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config.regularizer import AdaptiveCoefficientConfig


class AdaptiveCoefficient:
    """Integrates the sign of the entropy error; the strength is 0 before the first measurement."""

    def __init__(self, config: AdaptiveCoefficientConfig) -> None:
        self._config = config
        self._coefficient = config.initial
        self._below = False

    @property
    def strength(self) -> float:
        return self._coefficient if self._below else 0.0

    def update(self, entropy: float, entropy_target: float) -> float:
        if math.isfinite(entropy):
            self._below = entropy <= entropy_target
            change = self._config.delta if self._below else -self._config.delta
            self._coefficient = min(max(self._coefficient + change, 0.0), self._config.maximum)
        return self.strength

    def state(self) -> dict[str, float]:
        return {"coefficient": self._coefficient, "below": float(self._below)}

    def restore(self, state: Mapping[str, float]) -> None:
        self._coefficient = min(state["coefficient"], self._config.maximum)
        self._below = bool(state["below"])
