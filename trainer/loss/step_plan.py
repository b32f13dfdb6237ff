"""What a learner step decides once, at its start: every token's advantage and every rollout's weight.

Everything here follows from the proximal policy and the global batch, so minibatches, micro-batches and the number
of ranks divide the work and change nothing. Base rollouts are shaped by the regularizer and averaged as
`loss.aggregation` says; auxiliary rollouts keep their one advantage and the mean over their own tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.collectives import max_over_ranks, rank, sum_over_ranks
from trainer.config import RunConfig
from trainer.loss.aggregation import base_row_weights
from trainer.loss.objective import LossInputs, auxiliary_scale, learned_from, surprisal_scores
from trainer.regularizers import ClipRange, Measured, Regularizer
from trainer.rollouts.batch import RolloutBatch


@dataclass(frozen=True)
class StepPlan:
    """One rank's share of a step. N rows, T token columns; all detached."""

    proximal: Tensor
    """float[N, T], nats"""
    advantages: Tensor
    """float[N, T]"""
    keep: Tensor | None
    penalty: Tensor | None
    """float[N, T], see `TokenTerms`; neutral on auxiliary rows"""
    base_weight: Tensor
    auxiliary_weight: Tensor
    entropy_weight: Tensor
    """float[N], see `LossInputs`; a minibatch's share of the step counts `loss.minibatches`-fold"""
    entropy_coefficient: float
    base_clip: ClipRange | None
    reference: Tensor | None = None
    """float[N, T], nats"""
    kl_weight: Tensor | None = None
    """float[N], see `LossInputs`; None where the loss has no KL term"""

    @property
    def learning(self) -> Tensor:
        """bool[N]: the rows that move the policy. The others have no gradient and may be left out."""
        moving = self.base_weight + self.auxiliary_weight + self.entropy_weight
        return (moving if self.kl_weight is None else moving + self.kl_weight) != 0

    def inputs(self, rows: Tensor, batch: RolloutBatch, logprobs: Tensor, entropy: Tensor) -> LossInputs:
        """Loss inputs of some rows. rows: int64[n]; batch, logprobs, entropy: of these rows, in their order."""
        return LossInputs(
            logprobs=logprobs,
            proximal_logprobs=self.proximal[rows],
            behaviour_logprobs=batch.behaviour_logprobs,
            mask=batch.mask,
            advantages=self.advantages[rows],
            base_weight=self.base_weight[rows],
            auxiliary_weight=self.auxiliary_weight[rows],
            keep=None if self.keep is None else self.keep[rows],
            penalty=None if self.penalty is None else self.penalty[rows],
            entropy=entropy,
            entropy_weight=self.entropy_weight[rows],
            reference=None if self.reference is None else self.reference[rows],
            kl_weight=None if self.kl_weight is None else self.kl_weight[rows],
        )


def plan_step(
    batch: RolloutBatch,
    proximal: Tensor,
    entropy: Tensor,
    tilted: Tensor | None,
    sums: tuple[RoleSums, RoleSums],
    regularizer: Regularizer,
    config: RunConfig,
    *,
    surprisal_exponent: float,
    strength: float,
    step: int,
    reference: Tensor | None = None,
) -> StepPlan:
    """Shape the tokens and weigh the rows of this rank. Collective.

    proximal, entropy, tilted: float[N, T], nats, as `Measured` describes them; sums: of base and adaptive rollouts;
    reference: float[N, T], nats, log-probabilities of the reference policy.
    """
    base, adaptive = sums
    of_base = batch.mask * ~batch.auxiliary.unsqueeze(-1)
    terms = regularizer.terms(
        Measured(batch.advantages, batch.rewards, of_base, proximal, entropy, tilted),
        strength,
        _generator(config.seed, step),
    )
    neutral = torch.ones_like(of_base)
    advantages = torch.where(of_base > 0, terms.advantages, batch.advantages.unsqueeze(-1))
    loss = config.loss
    if reference is not None and loss.kl_coefficient and loss.kl_estimator == "k1":
        # As a loss k1 has a mean gradient of 0; as a cost of the sampled token it has that of the divergence.
        advantages = advantages - loss.kl_coefficient * (proximal - reference) * of_base
    keep = None if terms.keep is None else torch.where(of_base > 0, terms.keep, neutral)
    penalty = None if terms.penalty is None else terms.penalty * of_base
    paid = of_base * (advantages if penalty is None else advantages.abs() + penalty)
    minibatches = loss.minibatches
    base_weight = minibatches * base_row_weights(
        loss.aggregation,
        of_base.sum(-1),
        rollouts=base.rollouts,
        tokens=base.tokens,
        max_new_tokens=config.rollout.max_new_tokens,
    )
    coefficient = regularizer.entropy_coefficient(strength)
    entropy_weight = minibatches * of_base.sum(-1) / max(base.tokens, 1.0)
    return StepPlan(
        proximal=proximal,
        advantages=advantages,
        keep=keep,
        penalty=penalty,
        base_weight=base_weight * (paid != 0).any(-1),
        auxiliary_weight=_auxiliary_weights(
            batch, proximal, adaptive, config.entropy_control.normalization, surprisal_exponent, minibatches
        ),
        entropy_weight=entropy_weight if coefficient else torch.zeros_like(entropy_weight),
        entropy_coefficient=coefficient,
        base_clip=regularizer.clip_range(strength),
        reference=reference,
        kl_weight=base_weight if loss.kl_coefficient and loss.kl_estimator == "k3" else None,
    )


def _auxiliary_weights(
    batch: RolloutBatch,
    proximal: Tensor,
    adaptive: RoleSums,
    normalization: str,
    exponent: float,
    minibatches: int,
) -> Tensor:
    surprisal = -(proximal * batch.mask).sum(-1)
    learned = learned_from(batch.rewards, batch.advantages) * batch.auxiliary
    scores = surprisal_scores(learned, surprisal, exponent)
    scale = auxiliary_scale(normalization, adaptive.learned, adaptive.scores, adaptive.rollouts)
    return (scores * scale * minibatches).float()


def _generator(seed: int, step: int) -> torch.Generator:
    """Random numbers that depend on the run's seed, the step and the rank alone, on whatever device it computes."""
    state = np.random.SeedSequence((seed, step, rank())).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


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
