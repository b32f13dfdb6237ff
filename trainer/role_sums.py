"""What a step's rollouts add up to, by role and over all ranks: the numbers behind its metrics and its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.batching import RolloutBatch
from trainer.collectives import max_over_ranks, sum_over_ranks
from trainer.scope_loss import learned_from, surprisal_scores


@dataclass
class RoleSums:
    """Sums over one role's tokens, added over ranks. Log-quantities are nats."""

    tokens: float = 0.0
    rollouts: float = 0.0
    reward: float = 0.0
    kl: float = 0.0
    behaviour: float = 0.0
    entropy: float = 0.0
    learned: float = 0.0
    """auxiliary rollouts that are learned from; not counted for base rollouts"""
    scores: float = 0.0
    ratio_deviation: float = 0.0
    """largest |proximal / behaviour - 1| over tokens; not a sum"""


def role_sums(
    batch: RolloutBatch, proximal: Tensor, entropy: Tensor, surprisal_exponent: float
) -> tuple[RoleSums, RoleSums]:
    """Sums of base and of adaptive rollouts. proximal, entropy: float[N, T], nats. Collective."""
    difference = proximal - batch.behaviour_logprobs
    kl = difference.exp() - 1 - difference
    learned = learned_from(batch.rewards, batch.advantages) * batch.auxiliary
    scores = surprisal_scores(learned, -(proximal * batch.mask).sum(-1), surprisal_exponent)
    sums, deviations = [], []
    for rows in (~batch.auxiliary, batch.auxiliary):
        mask = batch.mask[rows]
        sums.append(
            [
                mask.sum(),
                mask.any(-1).sum(),
                batch.rewards[rows].sum(),
                (kl[rows] * mask).sum(),
                (batch.behaviour_logprobs[rows] * mask).sum(),
                (entropy[rows] * mask).sum(),
                learned[rows].sum(),
                scores[rows].sum(),
            ]
        )
        deviations.append(((difference[rows].exp() - 1).abs() * mask).amax() if rows.any() else mask.sum())
    added = sum_over_ranks(torch.stack([torch.stack([v.double() for v in row]) for row in sums]))
    worst = max_over_ranks(torch.stack(deviations).double())
    base, adaptive = (
        RoleSums(*values, ratio_deviation=deviation)
        for values, deviation in zip(added.tolist(), worst.tolist(), strict=True)
    )
    return base, adaptive
