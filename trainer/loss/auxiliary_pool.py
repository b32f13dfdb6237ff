"""The pool of the auxiliary loss: which rollouts it learns from, and how much each and each of its tokens weighs.

Rare correct answers are the ones that raise entropy (theorem 2 in docs/explanation/entropy-control.md), so positives
weigh s^rho, s their surprisal -log pi under the proximal policy at temperature 1. `entropy_control.surprisal` chooses
what s is of:

    answer        s = sum_t s_t             exact for one prompt whose answers are the atoms; long answers weigh more
    answer_mean   s = sum_t s_t / |o|       length counts no more, but a rare short answer weighs like a long common one
    prompt        as answer, and the weights of a prompt's positives are scaled to add up to their number
    token         each token weighs s_t^rho, an answer the mean of that over its tokens

A step has more than one rollout to learn from only where several succeed; how many it has in effect is
n = (sum w)^2 / sum w^2, Kish's effective sample size of the weights w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.collectives import max_over_ranks, sum_over_ranks
from trainer.config import EntropyControlConfig
from trainer.head.log_ratio import LOWEST_LOGPROB
from trainer.rollouts.batch import RolloutBatch

SURPRISAL_FLOOR = 1e-6
"""nats; keeps s^rho finite for answers and tokens of probability one"""


class AuxiliaryPool(NamedTuple):
    """This rank's part of the pool. N rows, T token columns; all detached."""

    learned: Tensor
    """float[N]: 1 where the row is learned from, see `learned_from`"""
    scores: Tensor
    """float64[N]: unnormalised weight, 0 for other rows"""
    token_weight: Tensor | None
    """float[N, T]: weight of a token within its row, mean 1 over the row's tokens; None: 1"""


def auxiliary_pool(
    batch: RolloutBatch, proximal: Tensor, surprisal_exponent: float, control: EntropyControlConfig
) -> AuxiliaryPool:
    """The pool of this rank's rows. proximal: float[N, T], nats at temperature 1; surprisal_exponent: rho."""
    learned = learned_from(batch.positive, batch.auxiliary_advantages)
    surprisal = -torch.where(batch.mask > 0, proximal.clamp(min=LOWEST_LOGPROB), 0.0).double()
    lengths = batch.mask.sum(-1).clamp(min=1)
    match control.surprisal:
        case "answer":
            return AuxiliaryPool(
                learned, surprisal_scores(learned, surprisal.sum(-1), surprisal_exponent), None
            )
        case "answer_mean":
            mean = surprisal.sum(-1) / lengths
            return AuxiliaryPool(learned, surprisal_scores(learned, mean, surprisal_exponent), None)
        case "prompt":
            scores = surprisal_scores(learned, surprisal.sum(-1), surprisal_exponent)
            return AuxiliaryPool(learned, _within_prompts(scores, learned, batch.slot), None)
        case "token":
            powers = surprisal_scores(batch.mask, surprisal, surprisal_exponent)
            mean = powers.sum(-1) / lengths
            weights = powers / mean.clamp(min=torch.finfo(torch.float64).tiny).unsqueeze(-1)
            return AuxiliaryPool(learned, learned * mean, weights.float())


def learned_from(positive: Tensor, auxiliary_advantages: Tensor) -> Tensor:
    """1.0 where a rollout of the pool is learned from, float[N]: positive with advantage 1, or failed with -1.

    positive: float[N], see `RolloutBatch`; auxiliary_advantages: float[N], 1 or -1 by `entropy_control.samples`, 0 for
    rows that are not in the pool.
    """
    return positive * (auxiliary_advantages > 0) + (1 - positive) * (auxiliary_advantages < 0)


def surprisal_scores(learned: Tensor, surprisal: Tensor, rho: float) -> Tensor:
    """Unnormalised weights learned * max(s, floor)^rho, float64. learned, surprisal: of equal shape; s in nats.

    float64, because powers of the floor vanish in float32.
    """
    return learned * surprisal.detach().double().clamp(min=SURPRISAL_FLOOR).pow(rho)


def _within_prompts(scores: Tensor, learned: Tensor, slot: Tensor) -> Tensor:
    """Scale the scores so that those of each prompt add up to the number of its rows that are learned from."""
    index = slot.clamp(min=0)
    size = int(index.max()) + 1 if len(index) else 1
    total = scores.new_zeros(size).index_add(0, index, scores)[index]
    count = scores.new_zeros(size).index_add(0, index, learned.double())[index]
    return torch.where(total > 0, scores * count / total.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


@dataclass(frozen=True)
class PoolSums:
    """Sums over the pool of the whole step, over all ranks. Lengths are tokens."""

    rollouts: float = 0.0
    """rollouts in the pool, learned from or not"""
    learned: float = 0.0
    scores: float = 0.0
    squared_scores: float = 0.0
    lengths: float = 0.0
    """summed lengths of the rollouts that are learned from"""
    weighted_lengths: float = 0.0
    """the same, each times its score"""
    largest_score: float = 0.0
    """not a sum"""

    @property
    def effective(self) -> float:
        """Effective number of rollouts that are learned from; 0 without any."""
        return self.scores**2 / self.squared_scores if self.squared_scores else 0.0

    @property
    def largest_share(self) -> float:
        """Share of the largest weight in their sum; 0 without positives."""
        return self.largest_score / self.scores if self.scores else 0.0

    @property
    def mean_length(self) -> float:
        """Mean length of what is learned from, tokens; 0 without positives."""
        return self.lengths / self.learned if self.learned else 0.0

    @property
    def weighted_length(self) -> float:
        """The same, weighted as the loss weighs it."""
        return self.weighted_lengths / self.scores if self.scores else 0.0


def pool_sums(batch: RolloutBatch, pool: AuxiliaryPool) -> PoolSums:
    """The sums over this step's pool. Collective."""
    lengths = batch.mask.sum(-1).double()
    parts = [
        (batch.auxiliary_advantages != 0).double(),
        pool.learned.double(),
        pool.scores,
        pool.scores.square(),
        lengths * pool.learned,
        lengths * pool.scores,
    ]
    sums = sum_over_ranks(torch.stack([part.sum() for part in parts]))
    # A rank may hold no rows.
    largest = max_over_ranks(torch.cat([pool.scores, pool.scores.new_zeros(1)]).amax(0, keepdim=True))
    return PoolSums(*sums.tolist(), largest_score=float(largest))


def auxiliary_scale(control: EntropyControlConfig, pool: PoolSums) -> float:
    """Factor that turns scores into weights; 0 without positives.

    normalization "sum": the weights add up to positives / rollouts of the pool, which for rho = 0 and a pool of
    adaptive rollouts is the paper's 1/G'. "positives": they add up to 1, or to n / evidence_floor where the effective
    number n of positives is below that floor, so that few successes do not carry all of alpha.
    """
    if not pool.learned or not pool.scores:
        return 0.0
    if control.normalization == "sum":
        return pool.learned / pool.rollouts / pool.scores
    floor = control.evidence_floor
    return (min(pool.effective / floor, 1.0) if floor else 1.0) / pool.scores
