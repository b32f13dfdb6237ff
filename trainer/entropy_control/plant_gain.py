"""The gain of the plant, from the law's output to the change of entropy, estimated in closed loop.

The plant is H' - H = drift + g x, where x is the output with the lag of the optimizer. g is the slope and the drift the
intercept of a least-squares fit, with forgetting, of the smoothed change of entropy on the equally smoothed x. Steady
entropy carries little information on g, so the estimate in use is a lower bound; it is tight when entropy oscillates,
which is when it matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

SKIPPED = 15
"""first measurements, during which the filters settle"""
FEWEST = 12
"""measurements before there is an estimate"""
CORRELATED = 6
"""neighbouring smoothed values count as one measurement"""
DEVIATIONS = 1.5
"""standard errors from the slope to its lower bound"""


@dataclass
class _Moments:
    """Weighted means and sums of products of deviations of the measurements, and the filters in front of them."""

    lagged: float = 0.0
    smoothed: float = 0.0
    output_1: float = 0.0
    output_2: float = 0.0
    """outputs of one and two steps ago: a decision shows in the measurement two steps later"""
    seen: float = 0.0
    weight: float = 0.0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0


class PlantGain:
    """The estimator. lag: of the optimizer; smoothing: of the rates; memory: of the forgetting; in learner steps."""

    def __init__(self, *, lag: float, smoothing: float, memory: float) -> None:
        self._lag, self._smoothing = 1 + lag, smoothing
        self._kept = 1 - 1 / memory
        self._now = _Moments()

    def observe(self, rate: float, output: float) -> None:
        """Add a step. rate: smoothed change of entropy, nats/step; output: the law's output decided from it."""
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
        """Lower bound of g, nats/step at full output; at most 0 while there is no estimate."""
        now = self._now
        if now.weight < FEWEST or now.xx <= 0:
            return 0.0
        slope = now.xy / now.xx
        free = max(now.weight / CORRELATED, 1.5) - 1
        return slope - DEVIATIONS * math.sqrt(max(now.yy - slope * now.xy, 0.0) / now.xx / free)

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        return {f"plant_{field.name}": getattr(self._now, field.name) for field in fields(_Moments)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state; start anew from one without this estimator."""
        self._now = _Moments(**{f.name: state.get(f"plant_{f.name}", 0.0) for f in fields(_Moments)})
