"""Log-ratios of two policies' token probabilities, bounded before they are exponentiated.

exp overflows float32 at 88.7 nats, and 0 times infinity is NaN, so one token of weight 0 could end a run. Within the
bound every value and gradient is exact. Beyond it a ratio is constant and its gradient 0, which changes little for a
clipped surrogate. Where the clip binds, the gradient is 0 already; below -20 nats the ratio, and with it the gradient,
is under 2.1e-9. What remains is a token of negative advantage whose probability grew by more than 20 nats since the
step began: its exact gradient is above 4.8e8 times that of a token that did not move, and after gradient clipping the
update would consist of this token alone. The next step measures its proximal policy anew, with a ratio of 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOUND = 20.0
"""nats: the largest absolute log-ratio; e^20 is 4.9e8"""
LOWEST_LOGPROB = -1e6
"""nats: a lower log-probability, such as -inf, counts as this one, so that the difference of two is a number"""


def log_ratio(above: Tensor, below: Tensor, mask: Tensor | None = None) -> Tensor:
    """log(above / below) of log-probabilities, nats, not bounded; 0 where the mask is 0.

    above, below, mask: float[...]. Finite for every finite or -inf log-probability; NaN stays NaN where the mask is 1.
    """
    difference = above.clamp(min=LOWEST_LOGPROB) - below.clamp(min=LOWEST_LOGPROB)
    return difference if mask is None else torch.where(mask > 0, difference, 0.0)


def bounded(ratio: Tensor) -> Tensor:
    """A log-ratio within ±`BOUND`; its gradient is 0 beyond. float[...] -> float[...]."""
    return ratio.clamp(-BOUND, BOUND)


def beyond(ratio: Tensor) -> Tensor:
    """Where a log-ratio lies beyond ±`BOUND`. float[...] -> bool[...]."""
    return ratio.abs() > BOUND
