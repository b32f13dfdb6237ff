"""Any law, acting through negatives: lowering the probability of cold failures raises entropy, of hot ones lowers it.

The gradient of a negative has the opposite sign, and so has its effect on entropy (the lemma in
docs/explanation/entropy-control.md); the temperature is therefore the inverse of the law's. That cold negatives raise
entropy is a tendency, not a theorem. Surprisal weights are off: inverted, they would put all weight on the most
confident failures.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.entropy_control.base import Actuators, Controller


class MirroredController:
    """`law` with the inverse temperature and without surprisal weights."""

    def __init__(self, law: Controller) -> None:
        self._law = law

    @property
    def actuators(self) -> Actuators:
        wanted = self._law.actuators
        return Actuators(1 / wanted.temperature, wanted.alpha, surprisal_exponent=0.0, limit=wanted.limit)

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        self._law.update(entropy, entropy_target, positives=positives, rollouts=rollouts, error=error)
        return self.actuators

    def state(self) -> dict[str, float]:
        return self._law.state()

    def restore(self, state: Mapping[str, float]) -> None:
        self._law.restore(state)

    def take_over(self, temperature: float) -> None:
        self._law.take_over(temperature)
