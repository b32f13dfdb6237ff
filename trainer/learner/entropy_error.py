"""How precisely a step measures the policy's entropy.

The entropy H = sum_g E_g / sum_g N_g is a ratio of sums over prompts g, with E_g the entropy and N_g the number of the
tokens of their base rollouts. Rollouts of one prompt resemble one another, so prompts are the independent units, and
with G of them the linearized variance of the ratio (Cochran, Sampling Techniques, section 6.4) is

    error^2 = G / (G - 1) sum_g (E_g - H N_g)^2 / (sum_g N_g)^2
"""

from __future__ import annotations

import math

from torch import Tensor

from trainer.collectives import max_over_ranks, sum_over_ranks
from trainer.rollouts.batch import RolloutBatch


def entropy_error(batch: RolloutBatch, entropy: Tensor) -> float:
    """Standard error of the entropy of base tokens, nats per token. entropy: float[N, T], nats. Collective.

    NaN with fewer than two prompts that have base tokens.
    """
    mask = batch.mask.double() * ~batch.auxiliary.unsqueeze(-1)
    slots = int(max_over_ranks(batch.slot.max())) + 1
    of_prompts = mask.new_zeros(2, slots)
    of_prompts[0].index_add_(0, batch.slot, (entropy * mask).sum(-1))
    of_prompts[1].index_add_(0, batch.slot, mask.sum(-1))
    entropies, tokens = sum_over_ranks(of_prompts)
    total, prompts = float(tokens.sum()), int((tokens > 0).sum())
    if prompts < 2:
        return math.nan
    squares = float(((entropies - entropies.sum() / total * tokens) ** 2).sum())
    return math.sqrt(prompts / (prompts - 1) * squares) / total
