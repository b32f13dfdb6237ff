"""Group-relative advantages (GRPO, arXiv 2402.03300) — learner side of the loop, before the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def group_advantages(rewards: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """A_i = (R_i - mean) / (std + epsilon) within one group.

    `rewards`: float64[G]. The standard deviation is the population one. A group whose rewards are all
    equal has advantage 0 everywhere.
    """
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + epsilon)
