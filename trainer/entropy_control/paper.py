"""The paper's law, T = clip(1 + H0 - H, t_min, t_max) with a constant alpha (arXiv 2510.08141)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import PaperLaw
from trainer.entropy_control.base import Actuators, Limit


class PaperController:
    """Proportional, on temperature alone; without memory."""

    def __init__(self, law: PaperLaw) -> None:
        self._law = law
        self._actuators = Actuators(1.0, law.alpha, law.surprisal_exponent)

    @property
    def actuators(self) -> Actuators:
        return self._actuators

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        del positives, rollouts, error
        if math.isfinite(entropy):
            wanted = 1 + (entropy_target - entropy)
            temperature = min(max(wanted, self._law.t_min), self._law.t_max)
            self._set(
                temperature, "none" if temperature == wanted else "heating" if wanted > 1 else "cooling"
            )
        return self._actuators

    def state(self) -> dict[str, float]:
        return {"temperature": self._actuators.temperature, "saturated": float(self._actuators.saturated)}

    def restore(self, state: Mapping[str, float]) -> None:
        limit: Limit = (
            "none" if not state["saturated"] else "heating" if state["temperature"] > 1 else "cooling"
        )
        self._begin(state["temperature"], limit)

    def take_over(self, temperature: float) -> None:
        self._begin(temperature, "none")

    def _begin(self, temperature: float, limit: Limit) -> None:
        # 1, of a law that has measured nothing, may lie outside of its limits.
        self._set(min(max(temperature, min(self._law.t_min, 1.0)), max(self._law.t_max, 1.0)), limit)

    def _set(self, temperature: float, limit: Limit) -> None:
        law = self._law
        self._actuators = Actuators(temperature, law.alpha, law.surprisal_exponent, limit)
