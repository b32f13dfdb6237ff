"""Group-relative advantages (GRPO, arXiv 2402.03300) — learner side of the loop, before the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def group_advantages(
    rewards: NDArray[np.float64], epsilon: float, *, standardized: bool = True
) -> NDArray[np.float64]:
    """A_i = (R_i - mean) / (std + epsilon) within one group; without `standardized`, R_i - mean.

    `rewards`: float64[G]. The standard deviation is the population one; leaving it out is Dr. GRPO's form (arXiv
    2503.20783), which does not weigh up prompts that are nearly always or nearly never solved. A group whose
    rewards are all equal has advantage 0 everywhere.
    """
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + epsilon) if standardized else centred
