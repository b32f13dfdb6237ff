"""Entropy control laws: from the measured policy entropy and the set-point to the next temperature and alpha.

A controller is pure: its state is a small dictionary that goes into the checkpoint, and `update` has no side
effects beyond it. One decision a step; what step n decides acts on rollouts started from step n + 1 on.

*paper*: T = clip(1 + H0 - H, t_min, t_max), alpha constant (arXiv 2510.08141).

*split_range*: a filtered PI controller whose output u in [-1, 1] drives two actuators, both neutral at u = 0. It
follows a reference r that begins at the first measured entropy and moves towards the set-point H0 at a limited rate, so
that a warm start far above it, or a set-point moved live, is approached and not shot past:

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
from dataclasses import dataclass
from typing import Protocol

from trainer.config import EntropyControlConfig, PaperLaw, SplitRangeLaw


@dataclass(frozen=True)
class Actuators:
    """What generators and the loss use next. `saturated`: the law asked for more than the actuators have."""

    temperature: float
    alpha: float
    saturated: bool = False


class Controller(Protocol):
    """The interface of a control law."""

    @property
    def actuators(self) -> Actuators:
        """The newest decision; before any measurement, the neutral one."""
        ...

    def update(self, entropy: float, set_point: float, *, positives: int) -> Actuators:
        """Decide from this step's entropy and set-point (nats per token) and its number of positives.

        A non-finite entropy holds the last decision. Without positives nothing integrates.
        """
        ...

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state."""
        ...


def make_controller(config: EntropyControlConfig) -> Controller:
    """The controller that `entropy_control.kind` names."""
    match config.kind:
        case "none":
            return FixedController()
        case "paper":
            return PaperController(config.paper)
        case "split_range":
            return SplitRangeController(config.split_range)


class FixedController:
    """No control: temperature 1, alpha 0 (plain GRPO)."""

    @property
    def actuators(self) -> Actuators:
        return Actuators(1.0, 0.0)

    def update(self, entropy: float, set_point: float, *, positives: int) -> Actuators:
        del entropy, set_point, positives
        return self.actuators

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        del state


class PaperController:
    """The paper's proportional law on temperature alone."""

    def __init__(self, law: PaperLaw) -> None:
        self._law = law
        self._actuators = Actuators(1.0, law.alpha)

    @property
    def actuators(self) -> Actuators:
        return self._actuators

    def update(self, entropy: float, set_point: float, *, positives: int) -> Actuators:
        del positives
        if math.isfinite(entropy):
            wanted = 1 + (set_point - entropy)
            temperature = min(max(wanted, self._law.t_min), self._law.t_max)
            self._actuators = Actuators(temperature, self._law.alpha, saturated=temperature != wanted)
        return self._actuators

    def state(self) -> dict[str, float]:
        return {"temperature": self._actuators.temperature, "saturated": float(self._actuators.saturated)}

    def restore(self, state: Mapping[str, float]) -> None:
        self._actuators = Actuators(state["temperature"], self._law.alpha, bool(state["saturated"]))


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
        return Actuators(temperature, alpha, self._saturated)

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
