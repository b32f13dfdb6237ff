"""AEPO's first version: bang-bang control of the temperature (arXiv 2510.08141v1), alpha constant.

T = t_hot where H < H0, else t_cold
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import BangBangLaw
from trainer.entropy_control.base import Actuators


class BangBangController:
    """Hot below the entropy target, cold above it; temperature 1 before the first measurement."""

    def __init__(self, law: BangBangLaw) -> None:
        self._law = law
        self._temperature = 1.0

    @property
    def actuators(self) -> Actuators:
        return Actuators(self._temperature, self._law.alpha, self._law.surprisal_exponent)

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        del positives, rollouts, error
        if math.isfinite(entropy):
            self._temperature = self._law.t_hot if entropy < entropy_target else self._law.t_cold
        return self.actuators

    def state(self) -> dict[str, float]:
        return {"temperature": self._temperature}

    def restore(self, state: Mapping[str, float]) -> None:
        self.take_over(state["temperature"])

    def take_over(self, temperature: float) -> None:
        # 1, of a law that has measured nothing, may lie outside of its limits.
        self._temperature = min(max(temperature, min(self._law.t_cold, 1.0)), max(self._law.t_hot, 1.0))
