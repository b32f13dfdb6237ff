"""The plan of a learner step, made once at its start: every token's advantage and every rollout's weight.

The plan follows from the proximal policy and the global batch alone, so splitting the work into minibatches,
micro-batches and ranks does not change the result. Base rollouts are shaped by the regularizer and averaged as
`loss.aggregation` says, with the adaptive rollouts that joined their groups; rollouts of the auxiliary pool are
averaged over their own tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.collectives import max_over_ranks, rank, sum_over_ranks
from trainer.config import RunConfig
from trainer.head.log_ratio import bounded, log_ratio
from trainer.loss.aggregation import base_row_weights
from trainer.loss.auxiliary_pool import AuxiliaryPool, PoolSums, auxiliary_scale
from trainer.loss.objective import LossInputs, kl_k3
from trainer.regularizers import ClipRange, Measured, Regularizer
from trainer.rollouts.batch import RolloutBatch


@dataclass
class RoleSums:
    """Sums over the rollouts and tokens of one role, over all ranks. Log-quantities are nats."""

    tokens: float = 0.0
    rollouts: float = 0.0
    reward: float = 0.0
    kl: float = 0.0
    """estimate of KL(behaviour ‖ proximal), see `kl_k3`"""
    behaviour: float = 0.0
    """sum of the behaviour log-probabilities"""
    entropy: float = 0.0
    learned: float = 0.0
    """rollouts that the auxiliary loss learns from"""
    grouped: float = 0.0
    """rollouts that the surrogate compares within groups"""
    grouped_tokens: float = 0.0
    ratio_deviation: float = 0.0
    """largest |proximal / behaviour - 1| over tokens; not a sum"""


def role_sums(
    batch: RolloutBatch, proximal: Tensor, entropy: Tensor, pool: AuxiliaryPool
) -> tuple[RoleSums, RoleSums]:
    """Sums of base and of adaptive rollouts. proximal, entropy: float[N, T], nats. Collective."""
    deviation = bounded(log_ratio(proximal, batch.behaviour_logprobs, batch.mask)).exp() - 1
    kl = kl_k3(batch.behaviour_logprobs, proximal)
    sums, deviations = [], []
    for rows in (~batch.auxiliary, batch.auxiliary):
        mask = batch.mask[rows]
        sums.append(
            [
                mask,
                mask.any(-1),
                batch.rewards[rows],
                kl[rows] * mask,
                batch.behaviour_logprobs[rows] * mask,
                entropy[rows] * mask,
                pool.learned[rows],
                mask.any(-1) & batch.grouped[rows],
                mask * batch.grouped[rows].unsqueeze(-1),
            ]
        )
        deviations.append(deviation[rows].abs().amax() if rows.any() else mask.sum())
    added = sum_over_ranks(
        torch.stack([torch.stack([v.sum(dtype=torch.float64) for v in row]) for row in sums])
    )
    worst = max_over_ranks(torch.stack(deviations).double())
    base, adaptive = (
        RoleSums(*values, ratio_deviation=deviation)
        for values, deviation in zip(added.tolist(), worst.tolist(), strict=True)
    )
    return base, adaptive


@dataclass(frozen=True)
class StepPlan:
    """The plan of one rank's rows. N rows, T token columns; all detached."""

    proximal: Tensor
    """float[N, T], nats"""
    advantages: Tensor
    """float[N, T]"""
    tilt: Tensor | None
    """float[N, T], nats, see `LossInputs`"""
    token_weight: Tensor | None
    """float[N, T], see `LossInputs`"""
    keep: Tensor | None
    penalty: Tensor | None
    """float[N, T], see `TokenTerms`; neutral on auxiliary rows"""
    base_weight: Tensor
    auxiliary_weight: Tensor
    entropy_weight: Tensor
    """float[N], see `LossInputs`; times `loss.minibatches`, since a minibatch is that fraction of the step"""
    entropy_coefficient: float
    base_clip: ClipRange | None
    reference: Tensor | None = None
    """float[N, T], nats"""
    kl_weight: Tensor | None = None
    """float[N], see `LossInputs`; None where the loss has no KL term"""

    @property
    def learning(self) -> Tensor:
        """bool[N]: the rows that move the policy. The others have no gradient and may be left out."""
        weights = (self.base_weight, self.auxiliary_weight, self.entropy_weight, self.kl_weight)
        return torch.stack([weight != 0 for weight in weights if weight is not None]).any(0)

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
            token_weight=None if self.token_weight is None else self.token_weight[rows],
            tilt=None if self.tilt is None else self.tilt[rows],
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
    pool: AuxiliaryPool,
    pool_sums: PoolSums,
    regularizer: Regularizer,
    config: RunConfig,
    *,
    strength: float,
    step: int,
    reference: Tensor | None = None,
    at_sampling: Tensor | None = None,
) -> StepPlan:
    """The plan of this rank's rows: shaped tokens and row weights. Collective.

    proximal, entropy, tilted: float[N, T], nats, see `Measured`; sums, pool, pool_sums: what `role_sums`,
    `auxiliary_pool` and `pool_sums` return for this batch; strength: of the regularizer; reference: float[N, T], nats,
    log-probabilities of the reference policy; at_sampling: float[N, T], nats, of the proximal policy at the rows'
    sampling temperature, needed where adaptive rows are in groups.
    """
    base, adaptive = sums
    of_base = batch.mask * ~batch.auxiliary.unsqueeze(-1)
    terms = regularizer.terms(
        Measured(batch.advantages, batch.positive, of_base, proximal, entropy, tilted),
        strength,
        _generator(config.seed, step),
    )
    neutral = torch.ones_like(of_base)
    advantages = torch.where(of_base > 0, terms.advantages, batch.advantages.unsqueeze(-1))
    loss = config.loss
    if reference is not None and loss.kl_coefficient and loss.kl_estimator == "k1":
        # As a loss k1 has a mean gradient of 0; as a cost of the sampled token it has that of the divergence.
        advantages = advantages - loss.kl_coefficient * log_ratio(proximal, reference, of_base)
    keep = None if terms.keep is None else torch.where(of_base > 0, terms.keep, neutral)
    penalty = None if terms.penalty is None else terms.penalty * of_base
    compared = batch.mask * batch.grouped.unsqueeze(-1)
    paid = compared * (advantages if penalty is None else advantages.abs() + penalty)
    minibatches = loss.minibatches
    base_weight = minibatches * base_row_weights(
        loss.aggregation,
        compared.sum(-1),
        rollouts=base.grouped + adaptive.grouped,
        tokens=base.grouped_tokens + adaptive.grouped_tokens,
        max_new_tokens=config.rollout.max_new_tokens,
    )
    kl_weight = None
    if loss.kl_coefficient and loss.kl_estimator == "k3":
        kl_weight = base_weight * ~batch.auxiliary
    scale = auxiliary_scale(config.entropy_control, pool_sums) * minibatches
    coefficient = regularizer.entropy_coefficient(strength)
    entropy_weight = minibatches * of_base.sum(-1) / max(base.tokens, 1.0)
    return StepPlan(
        proximal=proximal,
        advantages=advantages,
        tilt=None if at_sampling is None else log_ratio(proximal, at_sampling, batch.mask - of_base),
        token_weight=pool.token_weight,
        keep=keep,
        penalty=penalty,
        base_weight=base_weight * (paid != 0).any(-1),
        auxiliary_weight=(pool.scores * scale * batch.auxiliary_advantages).float(),
        entropy_weight=entropy_weight if coefficient else torch.zeros_like(entropy_weight),
        entropy_coefficient=coefficient,
        base_clip=regularizer.clip_range(strength),
        reference=reference,
        kl_weight=kl_weight,
    )


def _generator(seed: int, step: int) -> torch.Generator:
    """A CPU generator seeded by run, step and rank, so that every device draws the same numbers."""
    state = np.random.SeedSequence((seed, step, rank())).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
