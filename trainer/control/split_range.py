"""The project's own law: a filtered PI controller whose output u in [-1, 1] drives two actuators in split range.

Both actuators are neutral at u = 0. The law follows a reference r that begins at the first measured entropy and
moves towards the set-point H0 at a limited rate, so that a warm start far above it, or a set-point moved live, is
approached and not shot past:

    r += clip(H0 - r, -ramp, ramp);  e = r - H_filtered
    v = kp e + I;  u = clip(v, -1, 1);  I += ki e + back_calculation (u - v)
    T = 1 + (t_max - 1) u  for u > 0,  1 + (1 - t_min) u  for u < 0
    alpha = alpha_min + (alpha_max - alpha_min) max(u, 0)

Back-calculation keeps the integral from winding up while the actuators are at their limit.
Alpha stays at its minimum while cooling: a positive term always pulls entropy towards what the positives are,
and cold positives are common answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import SplitRangeLaw
from trainer.control.base import Actuators


class SplitRangeController:
    """Filtered PI on temperature and alpha in split range, anti-windup by back-calculation."""

    def __init__(self, law: SplitRangeLaw) -> None:
        self._law = law
        self._integral = 0.0
        self._filtered = math.nan
        self._reference = math.nan
        self._output = 0.0
        self._saturated = False

    @property
    def actuators(self) -> Actuators:
        law, u = self._law, self._output
        temperature = 1 + (law.t_max - 1) * u if u > 0 else 1 + (1 - law.t_min) * u
        alpha = law.alpha_min + (law.alpha_max - law.alpha_min) * max(u, 0.0)
        return Actuators(temperature, alpha, law.surprisal_exponent, self._saturated)

    def update(self, entropy: float, set_point: float, *, positives: int) -> Actuators:
        if not math.isfinite(entropy):
            return self.actuators
        law = self._law
        gain = 1 / (1 + law.filter_steps)
        if math.isnan(self._filtered):
            self._filtered = self._reference = entropy
        self._filtered += gain * (entropy - self._filtered)
        self._reference += min(max(set_point - self._reference, -law.ramp), law.ramp)
        error = self._reference - self._filtered
        wanted = law.kp * error + self._integral
        self._output = min(max(wanted, -1.0), 1.0)
        self._saturated = self._output != wanted
        if positives > 0:
            self._integral += law.ki * error + law.back_calculation * (self._output - wanted)
            self._integral = min(max(self._integral, -1.0), 1.0)
        return self.actuators

    def state(self) -> dict[str, float]:
        state = {
            "integral": self._integral,
            "output": self._output,
            "saturated": float(self._saturated),
        }
        # Before the first measurement there is nothing filtered, and JSON has no NaN to say so.
        if math.isnan(self._filtered):
            return state
        return {**state, "filtered": self._filtered, "reference": self._reference}

    def restore(self, state: Mapping[str, float]) -> None:
        self._integral = state["integral"]
        self._filtered = state.get("filtered", math.nan)
        self._reference = state.get("reference", math.nan)
        self._output = state["output"]
        self._saturated = bool(state["saturated"])
