"""Per-token covariance of advantage and log-probability, and exact selection of tokens over all ranks.

    cov_t = (A_t - mean A) (log pi_t - mean log pi)                      (arXiv 2505.22617)

To first order, its mean is the decrease of entropy by a policy gradient step; few tokens account for most of it. Means
are over the base tokens of the whole step, and log pi is that of the proximal policy. The papers' code uses the
micro-batch and the current policy instead, so its selection depends on the micro-batch size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.collectives import gather_over_ranks, rank, sum_over_ranks
from trainer.head.log_ratio import LOWEST_LOGPROB
from trainer.regularizers.base import Measured, token_advantages


def covariance(measured: Measured) -> Tensor:
    """cov_t by token, nats, float64[N, T]; only meaningful where the mask is 1."""
    mask = measured.mask.double()
    advantages = token_advantages(measured).double()
    logprobs = measured.logprobs.double().clamp(min=LOWEST_LOGPROB)
    count, total_advantage, total_logprob = sum_over_ranks(
        torch.stack([mask.sum(), (advantages * mask).sum(), (logprobs * mask).sum()])
    ).unbind()
    count = count.clamp(min=1.0)
    return (advantages - total_advantage / count) * (logprobs - total_logprob / count)


def tokens_of_share(measured: Measured, share: float) -> int:
    """`share` of the number of base tokens of the step over all ranks, rounded down, at least 1."""
    return max(1, int(share * float(sum_over_ranks(measured.mask.double().sum()))))


def smallest_over_ranks(values: Tensor, count: int) -> Tensor:
    """A mask of the `count` smallest finite values over all ranks, or of all if there are fewer.

    values: float64 of any shape. Ties go to the lower rank and the earlier position, so that at most `count` are
    selected. Returns a bool tensor of the same shape.
    """
    flat = values.flatten()
    ordered, places = flat.sort(stable=True)
    head = torch.full((count,), math.inf, dtype=flat.dtype, device=flat.device)
    head[: min(count, len(flat))] = ordered[:count]
    chosen = gather_over_ranks(head).flatten().argsort(stable=True)[:count]
    mine = chosen[chosen // count == rank()] % count
    mine = mine[head[mine].isfinite()]
    marked = torch.zeros_like(flat, dtype=torch.bool)
    marked[places[mine]] = True
    return marked.view(values.shape)
