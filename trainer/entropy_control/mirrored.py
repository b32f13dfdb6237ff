"""Any law, acting through failures: cold failures raise entropy when they are made less likely, hot ones lower it.

With a failure's gradient reversed, a sample's effect on entropy changes sign (the lemma in
docs/explanation/entropy-control.md), so the law's temperature T is applied as 1 / T. That negatives sampled cold raise
entropy is a tendency and no theorem. Surprisal weights would be reversed too, and the surest failures would then carry
all the weight, so there are none.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainer.entropy_control.base import Actuators, Controller


class MirroredController:
    """`law`, with temperature inverted and surprisal weights off."""

    def __init__(self, law: Controller) -> None:
        self._law = law

    @property
    def actuators(self) -> Actuators:
        wanted = self._law.actuators
        return Actuators(1 / wanted.temperature, wanted.alpha, surprisal_exponent=0.0, limit=wanted.limit)

    def update(self, entropy: float, entropy_target: float, *, positives: int) -> Actuators:
        self._law.update(entropy, entropy_target, positives=positives)
        return self.actuators

    def state(self) -> dict[str, float]:
        return self._law.state()

    def restore(self, state: Mapping[str, float]) -> None:
        self._law.restore(state)
