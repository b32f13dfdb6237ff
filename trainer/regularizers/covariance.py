"""Per-token covariance of advantage and log-probability, and exact choices of tokens over all ranks.

    cov_t = (A_t - mean A) (log pi_t - mean log pi)                      (arXiv 2505.22617)

Its mean is what a policy gradient step takes from the entropy, to first order; few tokens carry most of it. Means
are over the base tokens of the whole step, and log pi is the proximal policy's: the papers' code takes the
micro-batch and the current policy, so that its choice depends on how memory was budgeted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.collectives import gather_over_ranks, rank, sum_over_ranks
from trainer.regularizers.base import Measured, token_advantages


def covariance(measured: Measured) -> Tensor:
    """cov_t of every base token, nats; only meaningful where the mask is 1. -> float64[N, T]."""
    mask = measured.mask.double()
    advantages, logprobs = token_advantages(measured).double(), measured.logprobs.double()
    count, total_advantage, total_logprob = sum_over_ranks(
        torch.stack([mask.sum(), (advantages * mask).sum(), (logprobs * mask).sum()])
    ).unbind()
    count = count.clamp(min=1.0)
    return (advantages - total_advantage / count) * (logprobs - total_logprob / count)


def tokens_of_share(measured: Measured, share: float) -> int:
    """Number of tokens that are `share` of the step's base tokens, all ranks; rounded down, at least one."""
    return max(1, int(share * float(sum_over_ranks(measured.mask.double().sum()))))


def smallest_over_ranks(values: Tensor, count: int) -> Tensor:
    """Marks the `count` smallest finite values of all ranks together, fewer where there are not as many.

    values: float64 of any shape; ties go to the lower rank and the earlier place, so that never more than `count`
    are marked. Returns a bool tensor of that shape.
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
