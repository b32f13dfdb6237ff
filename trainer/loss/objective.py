"""The SCOPE objective: GRPO's clipped surrogate plus alpha times adaptive-temperature positives.

    J = sum_grouped v_i [ 1/|o| sum_t w (k min(r A, clip(r) A) - p |log r|) ] + c H - b KL
        + alpha * sum_positives omega_i [ 1/|o| sum_t w u_t min(r, clip(r)) ]

(arXiv 2510.08141; r is the importance ratio current / proximal policy; v_i = 1/N unless `trainer.loss.aggregation` says
otherwise; k = 1, p = 0 and c = 0 unless `trainer.regularizers` says otherwise; b = 0 unless `loss.kl_coefficient` is
set, KL from the reference policy; u_t = 1 unless tokens are weighted by their own surprisal.) Four things differ from
the paper: w = min(proximal / behaviour, cap), detached, corrects for stale or mismatched samplers (truncated importance
sampling); positives may be normalised by their number instead of G' and come from base rollouts as well; omega may grow
with surprisal, (-log pi)^rho (`trainer.loss.auxiliary_pool`); and adaptive rollouts may teach the reward, in the group
of the base rollouts. Their behaviour policy is then the one at their sampling temperature, so that

    w = min(proximal at 1 / behaviour at 1 * proximal at 1 / proximal at their temperature, cap)   in the first sum.

Pure functions of tensors. Row weights carry every normalisation over rollouts, so that the losses of
micro-batches and ranks add up to the loss of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.head.log_ratio import BOUND, beyond, bounded, log_ratio


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
    """float[N, T], of the surrogate"""
    base_weight: Tensor
    """float[N], weight of the row's token mean in the surrogate; 0 for rows that are in no group or have no gradient"""
    auxiliary_weight: Tensor
    """float[N], without alpha; negative where failures are lowered, 0 for rows that the term does not learn from"""
    token_weight: Tensor | None = None
    """float[N, T], weight of a token in the auxiliary term; None: 1"""
    tilt: Tensor | None = None
    """float[N, T], nats, log(proximal policy / the same at the row's sampling temperature), for rows whose behaviour
    log-probabilities are not at that temperature; None: 0"""
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
    """surrogate, with penalties, without the entropy bonus"""
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
    dual_clip: float | None = None,
    entropy_coefficient: float = 0.0,
    kl_coefficient: float = 0.0,
) -> LossOutputs:
    """Negative SCOPE objective of some rows; with alpha = 0 it is GRPO's.

    Ratios are clipped to [1 - clip_low, 1 + clip_high], in the surrogate by the (low, high) of `base_clip` where it is
    given; tis_cap: bound of w; dual_clip: where A < 0, a token's surrogate is at least dual_clip A (arXiv 1912.09729).
    Raises ValueError when entropy or KL divergence has a coefficient and `inputs` lacks it.
    """
    moved = log_ratio(inputs.logprobs, inputs.proximal_logprobs, inputs.mask)
    mismatch = log_ratio(inputs.proximal_logprobs, inputs.behaviour_logprobs, inputs.mask)
    ratio = bounded(moved).exp()
    low, high = (clip_low, clip_high) if base_clip is None else base_clip
    advantage, clipped = inputs.advantages, ratio.clamp(1 - low, 1 + high)
    per_token = torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None:
        per_token = torch.where(advantage < 0, per_token.clamp(min=dual_clip * advantage), per_token)
    if inputs.keep is not None:
        per_token = per_token * inputs.keep
    if inputs.penalty is not None:
        per_token = per_token - inputs.penalty * bounded(moved).abs()
    lengths = inputs.mask.sum(-1).clamp(min=1)
    tilted = mismatch if inputs.tilt is None else mismatch + inputs.tilt
    correction = bounded(tilted).exp().clamp(max=tis_cap).detach()
    surrogate = (inputs.base_weight * ((per_token * correction * inputs.mask).sum(-1) / lengths)).sum()
    sign, bound = inputs.auxiliary_weight.sign().unsqueeze(-1), ratio.clamp(1 - clip_low, 1 + clip_high)
    of_pool = torch.minimum(ratio * sign, bound * sign) * bounded(mismatch).exp().clamp(max=tis_cap).detach()
    if inputs.token_weight is not None:
        of_pool = of_pool * inputs.token_weight
    auxiliary = (inputs.auxiliary_weight.abs() * ((of_pool * inputs.mask).sum(-1) / lengths)).sum()
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
        compared, pooled = (inputs.base_weight != 0).unsqueeze(-1), inputs.auxiliary_weight.unsqueeze(-1) != 0
        counted = inputs.mask * (compared | pooled)
        binding = (ratio * advantage > clipped * advantage) & compared
        if dual_clip is not None:
            binding |= (advantage < 0) & (ratio > dual_clip) & compared
        binding = (binding | ((ratio * sign > bound * sign) & pooled)) & (counted > 0)
        clamped = beyond(moved) | beyond(tilted)
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
