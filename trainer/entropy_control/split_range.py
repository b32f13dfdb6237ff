"""The project's own law: PID control of one output u in [-1, 1] that drives three actuators in split range.

Measured plant (docs/explanation/entropy-control.md): entropy integrates u, H' - H = drift + g u, behind the lag of the
optimizer's momentum. All three actuators push the same way, are at rest at u = 0, and differ in speed:

    temperature   1 + (t_max - 1) u, or 1 + (1 - t_min) u for u < 0     late by the staleness
    rho           max(0, rest + (max - rest) u)                         at once; monotone by theorem
    alpha         rest + (max - rest) |u|                               at once; how hard the others push

rho is a straight line down to 0, so that alpha never amplifies weights that still heat while the law cools.

The law follows a reference r that begins at the first measured entropy and moves towards the target H0: by `ramp` a
step, slower over the last steps (the optimizer's momentum carries entropy past where a ramp stops dead), and never
further than `lead` ahead of the measurement, so that what the plant cannot do does not wind the integral up. The
reference's own rate is fed forward, and the derivative acts on how fast h moves beside r:

    h += (H - h) / (1 + filter_steps);   dh: the change of h, smoothed over RATE_STEPS
    v = kp (r - h) + I + dr / g + kp lag (dr - dh);   u = clip(v, -1, 1);   I += ki (r - h) + back_calculation (u - v)

Gains follow from the plant by internal-model tuning of an integrator with lag and dead time (Skogestad, J. Process
Control 13, 2003), with lambda = response_steps, g = plant_gain, lag = lag_steps and theta the dead time:

    kp = (2 lambda + theta) / (g (lambda + theta)^2);   ki = kp / (2 lambda + theta)

g is raised, never lowered below plant_gain, where the closed loop measures a stronger plant (`plant_gain.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import SplitRangeLaw
from trainer.entropy_control.base import Actuators, Limit
from trainer.entropy_control.plant_gain import PlantGain

UPDATE_DEAD_STEPS = 2.0
"""Dead time without staleness and filter: a step decides, the next one acts, the one after it is measured."""
RATE_STEPS = 3.0
TUNED_SHARE = 0.7
"""The default plant_gain, by what the closed loop measures of the plant that it was tuned on (0.022 nats/step)."""
MOST_RAISED = 4.0
"""times plant_gain"""


class SplitRangeController:
    """See the module. max_staleness: learner steps by which sampling lags the law."""

    def __init__(self, law: SplitRangeLaw, *, max_staleness: int) -> None:
        self._law = law
        # Temperature is the only actuator that waits for samples; it is about half of the authority.
        self._dead = UPDATE_DEAD_STEPS + law.filter_steps + max_staleness / 2
        self._measured = (
            PlantGain(lag=law.lag_steps, smoothing=RATE_STEPS, memory=law.gain_memory)
            if law.gain_memory
            else None
        )
        self._integral = 0.0
        self._filtered = math.nan
        self._reference = math.nan
        self._rate = 0.0
        self._output = 0.0
        self._limit: Limit = "none"

    @property
    def plant_gain(self) -> float:
        """g of the gains in force, nats/step at full output."""
        least = self._law.plant_gain
        if self._measured is None:
            return least
        return min(max(TUNED_SHARE * self._measured.at_least, least), MOST_RAISED * least)

    @property
    def gains(self) -> tuple[float, float]:
        """(kp in 1/nat, ki in 1/(nat * step))."""
        reach = 2 * self._law.response_steps + self._dead
        kp = reach / (self.plant_gain * (self._law.response_steps + self._dead) ** 2)
        return kp, kp / reach

    @property
    def actuators(self) -> Actuators:
        law, u = self._law, self._output
        rest, largest = law.surprisal_exponent, law.surprisal_exponent_max
        return Actuators(
            temperature=1 + (law.t_max - 1) * u if u > 0 else 1 + (1 - law.t_min) * u,
            alpha=law.alpha + (law.alpha_max - law.alpha) * abs(u),
            surprisal_exponent=max(0.0, rest + (largest - rest) * u),
            limit=self._limit,
        )

    def update(self, entropy: float, entropy_target: float, *, positives: int) -> Actuators:
        if not math.isfinite(entropy):
            return self.actuators
        law = self._law
        if math.isnan(self._filtered):
            self._filtered = self._reference = entropy
        change = (entropy - self._filtered) / (1 + law.filter_steps)
        self._filtered += change
        self._rate += (change - self._rate) / RATE_STEPS
        before = self._reference
        self._reference = self._advance(entropy_target)
        moved, error = self._reference - before, self._reference - self._filtered
        (kp, ki), plant_gain = self.gains, self.plant_gain
        wanted = kp * error + self._integral + moved / plant_gain + kp * law.lag_steps * (moved - self._rate)
        self._output = min(max(wanted, -1.0), 1.0)
        self._limit = "none" if self._output == wanted else "heating" if wanted > 0 else "cooling"
        if positives > 0:
            self._integral += ki * error + law.back_calculation * (self._output - wanted)
            self._integral = min(max(self._integral, -1.0), 1.0)
        if self._measured is not None:
            self._measured.observe(self._rate, self._output)
        return self.actuators

    def state(self) -> dict[str, float]:
        state = {"integral": self._integral, "output": self._output, "limit": _LIMITS[self._limit]}
        if self._measured is not None:
            state |= self._measured.state()
        # Before the first measurement there is nothing filtered, and JSON has no NaN to say so.
        if math.isnan(self._filtered):
            return state
        return {**state, "filtered": self._filtered, "reference": self._reference, "rate": self._rate}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue; from another law's state, begin with the temperature that it left in force."""
        if "integral" not in state:
            heat = state.get("temperature", 1.0) - 1
            span = self._law.t_max - 1 if heat > 0 else 1 - self._law.t_min
            self._integral = self._output = min(max(heat / span, -1.0), 1.0) if span else 0.0
            return
        self._integral = state["integral"]
        self._filtered = state.get("filtered", math.nan)
        self._reference = state.get("reference", math.nan)
        self._rate = state.get("rate", 0.0)
        self._output = state["output"]
        self._limit = next(limit for limit, code in _LIMITS.items() if code == state["limit"])
        if self._measured is not None:
            self._measured.restore(state)

    def _advance(self, entropy_target: float) -> float:
        """The reference one step on: towards the entropy target, held back where the measurement does not follow."""
        slowing = (entropy_target - self._reference) / (1 + self._law.lag_steps)
        step = min(max(slowing, -self._law.ramp), self._law.ramp)
        moved = self._reference + step
        if step > 0:
            return max(self._reference, min(moved, self._filtered + self._law.lead))
        return min(self._reference, max(moved, self._filtered - self._law.lead))


_LIMITS: dict[Limit, float] = {"none": 0.0, "heating": 1.0, "cooling": -1.0}
