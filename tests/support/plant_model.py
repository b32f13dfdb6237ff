"""The entropy plant, as `benchmarks/entropy/plant.py` measured it on Countdown, for closed-loop tests of control laws.

Entropy integrates: its change per step depends on its value and on the output u of the split range (from full cooling
to full heating), filtered by a lag that stands for the optimizer's momentum. Temperature, about 40 % of the authority,
acts `staleness` steps late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import SplitRangeLaw
from trainer.entropy_control import Actuators
from trainer.entropy_control.split_range import SplitRangeController

LEVELS = (0.10, 0.22, 0.41, 0.58)
"""nats per token"""
OUTPUTS = (-1.0, -0.2, 0.0, 0.5, 1.0)
SLOPES = (
    (-0.003, -0.0015, 0.000, 0.008, 0.016),
    (-0.006, -0.0035, 0.000, 0.011, 0.018),
    (-0.013, -0.0070, -0.004, 0.001, 0.0055),
    (-0.015, -0.0100, -0.007, -0.003, 0.001),
)
"""nats per step, a row for each level and a column for each output; those at 0.10 and 0.58 are extrapolated"""
MOMENTUM_STEPS = 5.0
NOISE = 0.012
"""standard deviation of one step's entropy, nats"""
LATE_SHARE = 0.4


def output_of(law: SplitRangeLaw, actuators: Actuators) -> float:
    """The controller output u that corresponds to `actuators`."""
    heat = actuators.temperature - 1
    return heat / (law.t_max - 1) if heat > 0 else heat / (1 - law.t_min)


def closed_loop(
    law: SplitRangeLaw,
    target_at: Callable[[int], float],
    *,
    steps: int = 160,
    start: float = 0.58,
    staleness: int = 1,
    seed: int = 0,
    gain: float = 1.0,
    pace: float = 1.0,
    noise: float = NOISE,
) -> tuple[NDArray[np.float64], list[Actuators]]:
    """Measured entropy and actuators of each step.

    gain: authority of the actuators relative to the measured plant; pace: speed of the whole plant relative to the
    measured one, as under another learning rate.
    """
    controller, rng = SplitRangeController(law, max_staleness=staleness), np.random.default_rng(seed)
    entropy, speed, outputs, trace, acted = start, 0.0, [0.0] * (staleness + 2), [], []
    for step in range(steps):
        measured = entropy + noise * rng.standard_normal()
        actuators = controller.update(measured, target_at(step), positives=100)
        outputs.append(output_of(law, actuators))
        acting = LATE_SHARE * outputs[-2 - staleness] + (1 - LATE_SHARE) * outputs[-2]
        rest = slope(entropy, 0.0)
        wanted = pace * (rest + gain * (slope(entropy, acting) - rest))
        speed += (wanted - speed) / MOMENTUM_STEPS
        entropy = max(0.01, entropy + speed)
        trace.append(measured)
        acted.append(actuators)
    return np.array(trace), acted


def slope(entropy: float, output: float) -> float:
    """Change of entropy in one step, in nats."""
    at: Sequence[float] = [np.interp(entropy, LEVELS, column) for column in zip(*SLOPES, strict=True)]
    return float(np.interp(output, OUTPUTS, at))


def moving_average(trace: NDArray[np.float64]) -> NDArray[Any]:
    """Moving average over 5 steps; the first value covers steps 0 to 4."""
    return np.convolve(trace, np.ones(5) / 5, "valid")
