"""The split-range law: PID control of one output u in [-1, 1] that drives three actuators.

Measured plant (docs/explanation/entropy-control.md): entropy integrates u, H' - H = drift + g u, with the lag of the
optimizer's momentum. All three actuators act in the same direction, are at rest at u = 0, and differ in speed:

    temperature   1 + (t_max - 1) u, or 1 + (1 - t_min) u for u < 0     delayed by the staleness
    rho           max(0, rest + (max - rest) u)                         immediate; monotone by theorem
    alpha         rest + (max - rest) |u|                               immediate; scales the other two

rho falls linearly to 0, so that alpha does not amplify weights that still heat while the law cools.

The law tracks a reference r that starts at the first measured entropy and moves towards the target H0 by at most `ramp`
per step. It slows down over the last steps, because the optimizer's momentum makes entropy overshoot the end of a ramp,
and it stays within `lead` of the measurement, so that the integral does not wind up while the plant cannot follow. The
rate of the reference is fed forward, and the derivative acts on the rate of h relative to it:

    h, dh: the filtered entropy and its rate (`entropy_filter.py`)
    v = kp (r - h) + I + dr / g + kp (lag + 2) (dr - dh);   u = clip(v, -1, 1)
    I += ki (r - h) + back_calculation (u - v)

The derivative looks ahead over the lag and over the 2 steps until a decision acts. Gains follow from the plant by
internal-model tuning of an integrator with lag and dead time (Skogestad, J. Process Control 13, 2003), with lambda =
response_steps, g = plant_gain, lag = lag_steps and theta the dead time. The filter adds no dead time, because it
foresees what the output does:

    kp = (2 lambda + theta) / (g (lambda + theta)^2);   ki = kp / (2 lambda + theta)

g is plant_gain, or larger where the plant measured in closed loop is stronger (`entropy_filter.py`). The temperature
stays below a ceiling where too few rollouts succeed, and the integral then counts what it sees for less
(`success_ceiling.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.config import SplitRangeLaw
from trainer.entropy_control.base import Actuators, Limit
from trainer.entropy_control.entropy_filter import EntropyFilter
from trainer.entropy_control.success_ceiling import SuccessCeiling

UPDATE_DEAD_STEPS = 2.0
"""dead time without staleness: one step decides, the next acts, the one after that is measured"""
TUNED_SHARE = 0.5
"""the default plant_gain divided by the estimate in closed loop of the plant it was tuned on (0.032 nats/step)"""
MOST_RAISED = 4.0
"""largest gain in use, as a multiple of plant_gain"""


class SplitRangeController:
    """The controller. max_staleness: delay from the law to sampling, learner steps."""

    def __init__(self, law: SplitRangeLaw, *, max_staleness: int) -> None:
        self._law = law
        # Only the temperature is delayed by the staleness, and it has about half of the control authority.
        self._dead = UPDATE_DEAD_STEPS + max_staleness / 2
        self._filter = EntropyFilter(
            gain=law.plant_gain / TUNED_SHARE, lag=law.lag_steps, memory=law.gain_memory
        )
        self._success = SuccessCeiling(law)
        self._integral = 0.0
        self._reference = math.nan
        self._output = 0.0
        self._limit: Limit = "none"

    @property
    def plant_gain(self) -> float:
        """g of the current gains, nats/step at full output."""
        least = self._law.plant_gain
        if not self._law.gain_memory:
            return least
        return min(max(TUNED_SHARE * self._filter.gain_at_least, least), MOST_RAISED * least)

    @property
    def gains(self) -> tuple[float, float]:
        """The current gains: kp in 1/nat, ki in 1/(nat * step)."""
        reach = 2 * self._law.response_steps + self._dead
        kp = reach / (self.plant_gain * (self._law.response_steps + self._dead) ** 2)
        return kp, kp / reach

    @property
    def actuators(self) -> Actuators:
        law, u = self._law, self._output
        rest, largest = law.surprisal_exponent, law.surprisal_exponent_max
        temperature = 1 + (law.t_max - 1) * u if u > 0 else 1 + (1 - law.t_min) * u
        return Actuators(
            temperature=min(temperature, self._success.temperature),
            alpha=law.alpha + (law.alpha_max - law.alpha) * abs(u),
            surprisal_exponent=max(0.0, rest + (largest - rest) * u),
            limit=self._limit,
        )

    def update(
        self, entropy: float, entropy_target: float, *, positives: int, rollouts: int, error: float = 0.0
    ) -> Actuators:
        if not math.isfinite(entropy):
            return self.actuators
        law, success = self._law, self._success
        success.observe(positives, rollouts, self.actuators.temperature)
        filtered = self._filter
        filtered.observe(entropy, error)
        if math.isnan(self._reference):
            self._reference = entropy
        before = self._reference
        self._reference = self._advance(entropy_target)
        moved, deviation = self._reference - before, self._reference - filtered.entropy
        (kp, ki), plant_gain = self.gains, self.plant_gain
        ahead = (law.lag_steps + UPDATE_DEAD_STEPS) * (moved - filtered.rate) if law.lag_steps else 0.0
        wanted = kp * (deviation + ahead) + self._integral + moved / plant_gain
        self._output = min(max(wanted, -1.0), 1.0)
        self._limit = "none" if self._output == wanted else "heating" if wanted > 0 else "cooling"
        if 1 + (law.t_max - 1) * self._output > success.temperature:
            self._limit = "starved"
        evidence = success.evidence if positives else 0.0
        self._integral += evidence * (ki * deviation + law.back_calculation * (self._output - wanted))
        self._integral = min(max(self._integral, -1.0), 1.0)
        filtered.acted(evidence * self._output)
        return self.actuators

    def state(self) -> dict[str, float]:
        state = {"integral": self._integral, "output": self._output, "limit": _LIMITS[self._limit]}
        state |= self._success.state() | self._filter.state() | {"temperature": self.actuators.temperature}
        # Before the first measurement the reference is NaN, which JSON does not have.
        return state if math.isnan(self._reference) else {**state, "reference": self._reference}

    def restore(self, state: Mapping[str, float]) -> None:
        self._success.restore(state)
        self._integral = state["integral"]
        self._reference = state.get("reference", math.nan)
        self._output = state["output"]
        self._limit = next(limit for limit, code in _LIMITS.items() if code == state["limit"])
        self._filter.restore(state)

    def take_over(self, temperature: float) -> None:
        """Begin at the output whose temperature this is; the integral holds it until the first measurements act."""
        heat = temperature - 1
        span = self._law.t_max - 1 if heat > 0 else 1 - self._law.t_min
        self._integral = self._output = min(max(heat / span, -1.0), 1.0) if span else 0.0

    def _advance(self, entropy_target: float) -> float:
        """The next reference: closer to the entropy target, and within `lead` of the measurement."""
        slowing = (entropy_target - self._reference) / (1 + self._law.lag_steps)
        step = min(max(slowing, -self._law.ramp), self._law.ramp)
        moved = self._reference + step
        if step > 0:
            return max(self._reference, min(moved, self._filter.entropy + self._law.lead))
        return min(self._reference, max(moved, self._filter.entropy - self._law.lead))


_LIMITS: dict[Limit, float] = {"none": 0.0, "heating": 1.0, "cooling": -1.0, "starved": 2.0}
