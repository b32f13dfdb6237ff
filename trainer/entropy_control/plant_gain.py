"""How strongly entropy answers the law's output, measured while the loop is closed.

The plant is H' - H = drift + g x, x the output behind the optimizer's lag. g is the slope of least squares of the
smoothed change of entropy on x, smoothed alike, with forgetting; the drift is the intercept. Entropy that stays put
says little about g, and entropy that swings a lot, which is when it matters: so what counts is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

SKIPPED = 15
"""first measurements, while the smoothed values still begin"""
FEWEST = 12
"""measurements before anything is claimed"""
CORRELATED = 6
"""neighbouring smoothed values count as one measurement"""
DEVIATIONS = 1.5
"""standard errors from the slope to its lower bound"""


@dataclass
class _Moments:
    """Means, and sums of products of deviations from them, of weighted measurements; and the filters before them."""

    lagged: float = 0.0
    smoothed: float = 0.0
    output_1: float = 0.0
    output_2: float = 0.0
    """of one step ago and of two: a decision shows in the measurement two steps later"""
    seen: float = 0.0
    weight: float = 0.0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0


class PlantGain:
    """See the module. lag: of the optimizer; smoothing: of the rates; memory: of the past; all in learner steps."""

    def __init__(self, *, lag: float, smoothing: float, memory: float) -> None:
        self._lag, self._smoothing = 1 + lag, smoothing
        self._kept = 1 - 1 / memory
        self._now = _Moments()

    def observe(self, rate: float, output: float) -> None:
        """One step: the smoothed change of entropy, nats/step, and the output decided after it."""
        now = self._now
        acting, now.output_2, now.output_1 = now.output_2, now.output_1, output
        now.lagged += (acting - now.lagged) / self._lag
        now.smoothed += (now.lagged - now.smoothed) / self._smoothing
        now.seen += 1
        if now.seen < SKIPPED:
            return
        now.weight = self._kept * now.weight + 1
        dx, dy = now.smoothed - now.mean_x, rate - now.mean_y
        now.mean_x += dx / now.weight
        now.mean_y += dy / now.weight
        now.xx = self._kept * now.xx + dx * (now.smoothed - now.mean_x)
        now.xy = self._kept * now.xy + dx * (rate - now.mean_y)
        now.yy = self._kept * now.yy + dy * (rate - now.mean_y)

    @property
    def at_least(self) -> float:
        """Lower bound of g, nats/step at full output; not positive while too little is known."""
        now = self._now
        if now.weight < FEWEST or now.xx <= 0:
            return 0.0
        slope = now.xy / now.xx
        free = max(now.weight / CORRELATED, 1.5) - 1
        return slope - DEVIATIONS * math.sqrt(max(now.yy - slope * now.xy, 0.0) / now.xx / free)

    def state(self) -> dict[str, float]:
        """For the checkpoint."""
        return {f"plant_{field.name}": getattr(self._now, field.name) for field in fields(_Moments)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue; from a state that has none of this, begin."""
        self._now = _Moments(**{f.name: state.get(f"plant_{f.name}", 0.0) for f in fields(_Moments)})
