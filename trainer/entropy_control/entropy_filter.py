"""Filters the measured entropy, and measures the plant in closed loop: one Kalman filter.

The plant is H' = H + d + g x, where x is the law's output, ACTING_STEPS late and with the lag of the optimizer. The
drift d is a random walk, the gain g a constant, and the standard error of the measured H is known. Since x is known,
H, d and g are the state of a linear system, and one filter estimates all three, with their covariance P:

    predict   H += d + g x;   P = F P F^T + Q
    update    k = P[:, H] / (P[H, H] + error^2);   (H, d, g) += k (measured - H);   P -= k P[H, :]

Steady entropy tells little about g, an oscillating one much. With i the information on g that a step brings, and
I = 1 / P[g, g] the information so far,

    I = max(I, (1 - 1 / memory) I + i)

so g is forgotten over `memory` steps that bring information, and never faster than information arrives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

ACTING_STEPS = 2
"""a decision shows in the measurement two steps later"""
DISTURBANCE = 0.045
DRIFT_WALK = 0.0145
"""standard deviations of what a step adds to H and to d, as shares of the first g; of high likelihood in recorded
runs"""
FIRST_DRIFT = 0.2
FIRST_GAIN = 1.0
"""standard deviations of the first d and the first g, as shares of the first g"""
DEVIATIONS = 1.5
"""standard errors from g to its lower bound"""
_NAMES = ("filtered", "drift", "gain")
_UPPER = [(row, column) for row in range(3) for column in range(row, 3)]


class EntropyFilter:
    """The filter. gain: the first g, nats/step; lag: of the optimizer, steps; memory: steps, 0 where g is known."""

    def __init__(self, *, gain: float, lag: float, memory: float) -> None:
        self._lag, self._memory = max(lag, 1.0), memory
        self._mean = np.array([math.nan, 0.0, gain])
        self._covariance = np.diag(
            [0.0, (FIRST_DRIFT * gain) ** 2, (FIRST_GAIN * gain) ** 2 if memory else 0.0]
        )
        self._added = np.diag([(DISTURBANCE * gain) ** 2, (DRIFT_WALK * gain) ** 2, 0.0])
        self._outputs = [0.0] * ACTING_STEPS
        self._acting = 0.0

    @property
    def entropy(self) -> float:
        """The filtered entropy, nats per token; NaN before the first measurement."""
        return float(self._mean[0])

    @property
    def rate(self) -> float:
        """The change of entropy in a step, d + g x, nats/step."""
        return float(self._mean[1] + self._mean[2] * self._acting)

    @property
    def gain_at_least(self) -> float:
        """Lower bound of g, nats/step at full output."""
        return float(self._mean[2] - DEVIATIONS * math.sqrt(self._covariance[2, 2]))

    def observe(self, entropy: float, error: float) -> None:
        """Add a measurement and its standard error, nats per token; an error that is not finite counts as none."""
        noise = error**2 if math.isfinite(error) else 0.0
        if math.isnan(self.entropy):
            self._mean[0], self._covariance[0, 0] = entropy, noise
            return
        self._acting += (self._outputs[0] - self._acting) / self._lag
        step = np.array([[1.0, 1.0, self._acting], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        mean = step @ self._mean
        predicted = step @ self._covariance @ step.T + self._added
        weights = predicted[:, 0] / (predicted[0, 0] + noise)
        self._mean = mean + weights * (entropy - mean[0])
        # This form of the update keeps the covariance positive in spite of rounding (Joseph).
        kept = np.eye(3)
        kept[:, 0] -= weights
        covariance = kept @ predicted @ kept.T + noise * np.outer(weights, weights)
        if self._memory:
            covariance[2, 2] = self._remembered(predicted[2, 2], covariance[2, 2])
        self._covariance = (covariance + covariance.T) / 2

    def acted(self, output: float) -> None:
        """Add the law's output, -1 to 1, decided from the newest measurement."""
        self._outputs = [*self._outputs[1:], output]

    def state(self) -> dict[str, float]:
        """State for the checkpoint; empty before the first measurement."""
        if math.isnan(self.entropy):
            return {}
        return (
            {name: float(value) for name, value in zip(_NAMES, self._mean, strict=True)}
            | {f"covariance_{row}{column}": float(self._covariance[row, column]) for row, column in _UPPER}
            | {f"output_{index}": output for index, output in enumerate(self._outputs)}
            | {"acting": self._acting}
        )

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state; begin anew from one without a filter.

        g begins anew where it was taken as known and is to be measured, or the other way round.
        """
        if "covariance_00" not in state:
            return
        known = 3 if (state["covariance_22"] > 0) == (self._memory > 0) else 2
        self._mean[:known] = [state[name] for name in _NAMES[:known]]
        for row, column in _UPPER:
            if column < known:
                value = state[f"covariance_{row}{column}"]
                self._covariance[row, column] = self._covariance[column, row] = value
        self._outputs = [state[f"output_{index}"] for index in range(ACTING_STEPS)]
        self._acting = state["acting"]

    def _remembered(self, before: float, after: float) -> float:
        """The variance of g to go on with, where a step has reduced it from `before` to `after`."""
        return min(before, 1 / (1 / after - 1 / (self._memory * before)))
