"""How hot adaptive rollouts may be sampled, from how many of them succeed.

Entropy is raised through rollouts that succeed at a high temperature. Where hardly any do, a hotter temperature finds
still fewer: nothing is learned from, entropy falls on, and the law asks for more heat. The ceiling on the temperature
therefore falls while the rate of success is below a floor, from the temperature that found too few towards 1, and rises
again, more slowly, while it is above. The law comes to rest where adaptive rollouts just succeed often enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import SplitRangeLaw

SMOOTHING_STEPS = 2.0
"""time constant of the measured rate of success, learner steps"""
FALL = 0.1
"""share of t_max - 1 by which the ceiling falls in a step in which nothing succeeds"""
RISE = 0.01
"""largest share of t_max - 1 by which the ceiling rises in a step"""


class SuccessCeiling:
    """The ceiling on the temperature of adaptive rollouts."""

    def __init__(self, law: SplitRangeLaw) -> None:
        self._floor, self._highest = law.success_floor, law.t_max
        self._rate = math.nan
        self._ceiling = law.t_max

    @property
    def temperature(self) -> float:
        """The highest temperature allowed, from 1 to `t_max`."""
        return self._ceiling

    @property
    def evidence(self) -> float:
        """How much of what the law measures is an effect of its actuators, 0 to 1: the rate of success by its floor."""
        return 1.0 if math.isnan(self._rate) or not self._floor else min(self._rate / self._floor, 1.0)

    def observe(self, positives: int, rollouts: int, temperature: float) -> None:
        """Add a step. rollouts: adaptive ones, of which `positives` succeeded; temperature: in force so far."""
        if not self._floor or not rollouts:
            return
        rate = positives / rollouts
        self._rate = rate if math.isnan(self._rate) else self._rate + (rate - self._rate) / SMOOTHING_STEPS
        room, span = self._rate / self._floor - 1, self._highest - 1
        if room < 0:
            self._ceiling = max(1.0, min(self._ceiling, temperature) + FALL * room * span)
        else:
            self._ceiling = min(self._highest, self._ceiling + RISE * min(room, 1.0) * span)

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        return {"ceiling": self._ceiling} | ({} if math.isnan(self._rate) else {"success_rate": self._rate})

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state; `t_max` may have changed since."""
        self._rate = state.get("success_rate", math.nan)
        self._ceiling = min(max(state.get("ceiling", self._highest), 1.0), self._highest)
