"""No control law: plain GRPO, or GRPO with a `regularizer`."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.entropy_control.base import NEUTRAL, Actuators


class FixedController:
    """Always temperature 1 and alpha 0."""

    @property
    def actuators(self) -> Actuators:
        return NEUTRAL

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        del entropy, entropy_target, positives, rollouts, error
        return self.actuators

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        del state

    def take_over(self, temperature: float) -> None:
        del temperature
