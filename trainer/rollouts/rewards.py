"""Rewards of a group: advantages within it (GRPO, arXiv 2402.03300), and whether they are uniform. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FULL_REWARD = 1 - 1e-6
"""rewards from here on count as 1"""
SMALLEST_EXPONENT = -900
"""of the power of two that rewards are divided by, so that dividing epsilon by it does not overflow"""


def group_advantages(
    rewards: NDArray[np.float64],
    epsilon: float,
    *,
    standardized: bool = True,
    std: Literal["population", "sample"] = "population",
) -> NDArray[np.float64]:
    """GRPO's advantages within one group (arXiv 2402.03300), float64[G]: A_i = (R_i - mean) / (std + epsilon).

    rewards: float64[G]; std: "population" or "sample", divided by G or G - 1. Without `standardized`, A_i = R_i - mean,
    the form of Dr. GRPO (arXiv 2503.20783), which gives no extra weight to prompts that are nearly always or nearly
    never solved. A group whose rewards are all equal has advantage exactly 0 everywhere; differences far below epsilon
    give advantages near 0. Any finite rewards give finite standardized advantages, at most sqrt(G - 1) in size.
    """
    if is_uniform(rewards.tolist()):
        return np.zeros_like(rewards)
    # Scaled by a power of two, which is exact, so that squares neither overflow nor vanish; measured from the smallest
    # reward, so that rewards that are close keep their differences.
    exponent = max(int(np.frexp(np.abs(rewards).max())[1]) + 1, SMALLEST_EXPONENT)
    scaled = np.ldexp(rewards, -exponent)
    above = scaled - scaled.min()
    centred = above - above.mean()
    return (
        centred / (centred.std(ddof=int(std == "sample")) + np.ldexp(epsilon, -exponent))
        if standardized
        else np.ldexp(centred, exponent)
    )


def is_uniform(rewards: Sequence[float]) -> bool:
    """Whether a group's rewards are all equal, so that its advantages are 0. rewards: of the scored rollouts only."""
    return len(rewards) < 2 or max(rewards) == min(rewards)
