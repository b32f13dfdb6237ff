"""The entropy plant, as `benchmarks/entropy/plant.py` measured it on Countdown, for closed-loop tests of control laws.

Entropy integrates: its change per step depends on its value and on the output u of the split range (from full cooling
to full heating), filtered by a lag that stands for the optimizer's momentum. Temperature, about 40 % of the authority,
acts `staleness` steps late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


ROLLOUTS = 384
FEW_POSITIVES = 8
"""positives in a step below which the actuators lose their authority"""
COLLAPSE = -0.004
"""nats per step: change of entropy without an authority that counters it, at most"""


def of_temperature(law: SplitRangeLaw, temperature: float) -> float:
    """The output u at which the law samples at `temperature`."""
    heat = temperature - 1
    return heat / (law.t_max - 1) if heat > 0 else heat / (1 - law.t_min)


def of_weights(law: SplitRangeLaw, actuators: Actuators) -> float:
    """The output u at which the law has the alpha and rho of `actuators`."""
    size = (actuators.alpha - law.alpha) / (law.alpha_max - law.alpha)
    return size if actuators.surprisal_exponent >= law.surprisal_exponent else -size


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
    success: Callable[[float], float] = lambda temperature: 0.25,
    restored: Mapping[str, float] | None = None,
    controller: SplitRangeController | None = None,
) -> tuple[NDArray[np.float64], list[Actuators]]:
    """Measured entropy and actuators of each step.

    gain: authority of the actuators relative to the measured plant; pace: speed of the whole plant relative to the
    measured one, as under another learning rate. success: share of adaptive rollouts that succeed, by the temperature
    at which they are sampled; with few successes the actuators lose their authority, and entropy falls. restored: state
    of the controller at the start. controller: None: a new one of `law`.
    """
    controller = controller or SplitRangeController(law, max_staleness=staleness)
    rng = np.random.default_rng(seed)
    if restored is not None:
        controller.restore(restored)
    entropy, speed, trace, acted, chance = start, 0.0, [], [], np.random.default_rng(seed + 1)
    outputs, heats = [0.0] * (staleness + 2), [controller.actuators.temperature] * (staleness + 2)
    for step in range(steps):
        measured = entropy + noise * rng.standard_normal()
        positives = chance.binomial(ROLLOUTS, success(heats[-2 - staleness]))
        actuators = controller.update(
            measured, target_at(step), positives=positives, rollouts=ROLLOUTS, error=noise
        )
        outputs.append(of_weights(law, actuators))
        heats.append(actuators.temperature)
        acting = LATE_SHARE * of_temperature(law, heats[-2 - staleness]) + (1 - LATE_SHARE) * outputs[-2]
        rest = slope(entropy, 0.0)
        evidence = min(1.0, positives / FEW_POSITIVES)
        held = rest + gain * (slope(entropy, acting) - rest)
        wanted = pace * (evidence * held + (1 - evidence) * min(rest, COLLAPSE))
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
