"""Rewards of a group: advantages within it (GRPO, arXiv 2402.03300), positives, and whether they are uniform.

Does not import torch, because the generator module imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def group_advantages(
    rewards: NDArray[np.float64], epsilon: float, *, standardized: bool = True
) -> NDArray[np.float64]:
    """GRPO's advantages within one group (arXiv 2402.03300), float64[G]: A_i = (R_i - mean) / (std + epsilon).

    rewards: float64[G]. std is the population standard deviation. Without `standardized`, A_i = R_i - mean, the form of
    Dr. GRPO (arXiv 2503.20783), which gives no extra weight to prompts that are nearly always or nearly never solved.
    A group whose rewards are all equal has advantage 0 everywhere.
    """
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + epsilon) if standardized else centred


def positives(rewards: Tensor) -> Tensor:
    """Positives (arXiv 2510.08141): 1.0 where a rollout is fully rewarded (R = 1), else 0.0. float[N] -> float[N]."""
    return (rewards >= 1 - 1e-6).to(rewards.dtype)


def is_uniform(rewards: Sequence[float]) -> bool:
    """Whether a group's rewards are all equal, so that its advantages are 0. rewards: of the scored rollouts only."""
    return len(rewards) < 2 or max(rewards) == min(rewards)
