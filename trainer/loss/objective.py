"""The SCOPE objective: GRPO's clipped surrogate plus alpha times adaptive-temperature positives.

    J = sum_base v_i [ 1/|o| sum_t w (k min(r A, clip(r) A) - p |log r|) ] + c H - b KL
        + alpha * sum_positives omega_i [ 1/|o| sum_t w min(r, clip(r)) ]

(arXiv 2510.08141; r is the importance ratio current / proximal policy; v_i = 1/N unless `trainer.loss.aggregation` says
otherwise; k = 1, p = 0 and c = 0 unless `trainer.regularizers` says otherwise; b = 0 unless `loss.kl_coefficient` is
set, KL from the reference policy.) Three things differ from the paper:
w = min(proximal / behaviour, cap), detached, corrects for stale or mismatched samplers (truncated importance
sampling); positives may be normalised by their number instead of G'; and omega may grow with the surprisal of
the whole answer, (-log pi)^rho, since rare correct answers are the ones that raise entropy.

Pure functions of tensors. Row weights carry every normalisation over rollouts, so that the losses of
micro-batches and ranks add up to the loss of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.head.log_ratio import BOUND, beyond, bounded, log_ratio
from trainer.rollouts.rewards import positives

SURPRISAL_FLOOR = 1e-6
"""Nats; keeps (-log pi)^rho finite for answers of probability one."""


@dataclass(frozen=True)
class LossInputs:
    """Rows are rollouts (N), columns response tokens (T, right-padded). Log-probabilities are nats."""

    logprobs: Tensor
    """float[N, T], current policy, with gradient; at the temperature of the behaviour log-probabilities"""
    proximal_logprobs: Tensor
    """float[N, T], policy at the start of the step"""
    behaviour_logprobs: Tensor
    """float[N, T], as the generator reported them"""
    mask: Tensor
    """float[N, T], 1 where a token counts"""
    advantages: Tensor
    """float[N, T]; for auxiliary rows 1, or -1 where failures are lowered"""
    base_weight: Tensor
    """float[N], weight of the row's token mean; 0 for auxiliary rows and for rows without a gradient"""
    auxiliary_weight: Tensor
    """float[N], without alpha; 0 for base rows and for auxiliary rollouts that are not learned from"""
    keep: Tensor | None = None
    """float[N, T], 0 where the surrogate is left out; None: nowhere"""
    penalty: Tensor | None = None
    """float[N, T], loss per nat of |log r|; None: none"""
    entropy: Tensor | None = None
    """float[N, T], current policy, with gradient; read only where the entropy has a coefficient"""
    entropy_weight: Tensor | None = None
    """float[N], weight of the row's mean entropy; 0 for auxiliary rows"""
    reference: Tensor | None = None
    """float[N, T], reference policy; read only where the KL divergence has a coefficient"""
    kl_weight: Tensor | None = None
    """float[N], weight of the row's mean KL divergence; 0 for auxiliary rows"""


@dataclass(frozen=True)
class LossOutputs:
    """The loss to minimise, and detached sums to be added over micro-batches and ranks."""

    loss: Tensor
    surrogate: Tensor
    """surrogate of base rollouts, with penalties, without the entropy bonus"""
    auxiliary: Tensor
    """auxiliary term, without alpha"""
    clipped_tokens: Tensor
    """tokens where the clipped ratio bounds the surrogate"""
    tokens: Tensor
    """tokens of rows with a weight"""
    clamped_tokens: Tensor
    """tokens of rows with any weight of which a log-ratio is beyond `trainer.head.log_ratio.BOUND`"""


def scope_loss(
    inputs: LossInputs,
    *,
    alpha: float,
    clip_low: float,
    clip_high: float,
    tis_cap: float,
    base_clip: tuple[float, float] | None = None,
    entropy_coefficient: float = 0.0,
    kl_coefficient: float = 0.0,
) -> LossOutputs:
    """Negative SCOPE objective of some rows; with alpha = 0 it is GRPO's.

    Ratios are clipped to [1 - clip_low, 1 + clip_high], those of base rows by the (low, high) of `base_clip` where it
    is given; tis_cap: bound of w. Raises ValueError when entropy or KL divergence has a coefficient and `inputs` lacks
    it.
    """
    moved = log_ratio(inputs.logprobs, inputs.proximal_logprobs, inputs.mask)
    mismatch = log_ratio(inputs.proximal_logprobs, inputs.behaviour_logprobs, inputs.mask)
    ratio = bounded(moved).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    if base_clip is not None:
        of_base = (inputs.base_weight != 0).unsqueeze(-1)
        clipped = torch.where(of_base, ratio.clamp(1 - base_clip[0], 1 + base_clip[1]), clipped)
    advantage = inputs.advantages
    per_token = torch.minimum(ratio * advantage, clipped * advantage)
    if inputs.keep is not None:
        per_token = per_token * inputs.keep
    if inputs.penalty is not None:
        per_token = per_token - inputs.penalty * bounded(moved).abs()
    correction = bounded(mismatch).exp().clamp(max=tis_cap).detach()
    lengths = inputs.mask.sum(-1).clamp(min=1)
    per_rollout = (per_token * correction * inputs.mask).sum(-1) / lengths
    surrogate = (inputs.base_weight * per_rollout).sum()
    auxiliary = (inputs.auxiliary_weight * per_rollout).sum()
    objective = surrogate + alpha * auxiliary
    if entropy_coefficient != 0:
        if inputs.entropy is None or inputs.entropy_weight is None:
            raise ValueError(f"entropy_coefficient={entropy_coefficient} needs entropy and its row weights")
        mean_entropy = (inputs.entropy * inputs.mask).sum(-1) / lengths
        objective = objective + entropy_coefficient * (inputs.entropy_weight * mean_entropy).sum()
    if kl_coefficient != 0:
        if inputs.reference is None or inputs.kl_weight is None:
            raise ValueError(
                f"kl_coefficient={kl_coefficient} needs reference log-probabilities and row weights"
            )
        divergence = (kl_k3(inputs.logprobs, inputs.reference) * inputs.mask).sum(-1) / lengths
        objective = objective - kl_coefficient * (inputs.kl_weight * divergence).sum()
    with torch.no_grad():
        counted = inputs.mask * ((inputs.base_weight + inputs.auxiliary_weight) != 0).unsqueeze(-1)
        binding = (ratio * advantage > clipped * advantage) & (counted > 0)
        clamped = beyond(moved) | beyond(mismatch)
        if kl_coefficient != 0 and inputs.reference is not None:
            clamped |= log_ratio(inputs.reference, inputs.logprobs, inputs.mask) > BOUND
    return LossOutputs(
        loss=-objective,
        surrogate=surrogate.detach(),
        auxiliary=auxiliary.detach(),
        clipped_tokens=binding.sum(),
        tokens=counted.sum(),
        clamped_tokens=(clamped & _weighted(inputs).unsqueeze(-1)).sum(),
    )


def _weighted(inputs: LossInputs) -> Tensor:
    """Which rows have a weight in any term of the loss, bool[N]."""
    weights = (inputs.base_weight, inputs.auxiliary_weight, inputs.entropy_weight, inputs.kl_weight)
    return torch.stack([weight != 0 for weight in weights if weight is not None]).any(0)


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Estimate of KL(policy ‖ reference) from tokens that the policy sampled, nats: exp(-d) - 1 + d, never negative.

    d = log(policy / reference): the estimator k3 of joschu.net/blog/kl-approx.html, which GRPO uses. Both float[...].
    -d is at most `BOUND`. There is no bound below, where the estimate is d - 1 and cannot overflow: its gradient pulls
    the policy back however far it has gone from the reference.
    """
    difference = log_ratio(reference, logprobs).clamp(max=BOUND)
    return difference.exp() - 1 - difference


def surprisal_scores(learned: Tensor, surprisal: Tensor, rho: float) -> Tensor:
    """Unnormalised weight of each auxiliary rollout: 1[learned from] * max(s, floor)^rho, float64[N].

    learned: float[N], see `learned_from`; surprisal: float[N], s = -log pi(o | q) under the proximal policy at
    temperature 1, summed over the answer, nats. float64, because powers of the floor vanish in float32.
    """
    return learned * surprisal.detach().double().clamp(min=SURPRISAL_FLOOR).pow(rho)


def learned_from(rewards: Tensor, advantages: Tensor) -> Tensor:
    """1.0 where an auxiliary rollout is learned from, float[N]: rewarded with advantage 1, or failed with -1.

    advantages: float[N], 1 or -1 by `entropy_control.samples`, 0 for rows without a rollout.
    """
    rewarded = positives(rewards)
    return rewarded * (advantages > 0) + (1 - rewarded) * (advantages < 0)


def auxiliary_scale(
    normalization: str, positive_count: float, score_sum: float, auxiliary_count: float
) -> float:
    """Factor that turns `surprisal_scores` into weights; 0 without positives.

    Counts and score_sum are of the whole step, over all ranks. "sum": the weights add up to positives / auxiliary
    rollouts, which for rho = 0 is the paper's 1/G'; "positives": they add up to 1.
    """
    if positive_count == 0:
        return 0.0
    total = positive_count / auxiliary_count if normalization == "sum" else 1.0
    return total / score_sum
