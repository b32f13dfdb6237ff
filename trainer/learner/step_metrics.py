"""What one learner step measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepMetrics:
    """Measurements of one learner step over the whole global batch. Log-quantities are nats."""

    entropy: float
    """policy entropy before the update: exact, at temperature 1, nats per base token; NaN without base tokens"""
    entropy_error: float
    """standard error of `entropy` over prompts, nats per token; NaN with fewer than two"""
    surrogate: float
    auxiliary: float
    """parts of the objective, mean over the step's updates; auxiliary without its weight alpha"""
    clip_fraction: float
    clamped_tokens: int
    """tokens of which a log-ratio in the loss is beyond `trainer.head.log_ratio.BOUND`, summed over the updates"""
    gradient_norm: float
    """global norm of the gradient, mean over the step's updates"""
    positives: int
    """adaptive rollouts that the auxiliary loss learns from: rewarded ones, unless `entropy_control.samples` says
    otherwise"""
    adaptive_rollouts: int
    """adaptive rollouts, learned from or not"""
    auxiliary_positives: int
    """rollouts that the auxiliary loss learns from, base ones among them with `entropy_control.positives_from` = all"""
    auxiliary_effective: float
    """their effective number, (sum w)^2 / sum w^2 over their weights w"""
    auxiliary_largest_share: float
    """share of the largest weight in the sum; 0 without positives"""
    auxiliary_length: float
    auxiliary_weighted_length: float
    """mean length of the rollouts that are learned from, tokens: plain, and weighted as in the loss"""
    reward_base: float
    reward_adaptive: float
    """mean rewards; NaN without adaptive rollouts"""
    tokens: int
    """response tokens that are learned from or measured"""
    response_length: float
    """mean length of a response, tokens"""
    padding_share: float
    """share of padding in the tokens of the forward passes, before prompts are shared"""
    token_imbalance: float
    """prompt and response tokens of the rank with most, over the mean of the ranks"""
    mismatch_kl_base: float
    mismatch_kl_adaptive: float
    """KL(behaviour ‖ proximal), nats per token: mean of exp(d) - 1 - d, d = proximal - behaviour log-probability"""
    ratio_deviation_base: float
    ratio_deviation_adaptive: float
    """largest |proximal / behaviour - 1| over tokens"""
    generator_entropy: float
    """-mean behaviour log-probability of base tokens, which estimates the entropy where they are sampled at 1"""
    proximal_seconds: float
    update_seconds: float
    learning_rate: float = 0.0
    """learning rate of the step's updates"""
    reference_kl: float | None = None
    """KL(policy ‖ reference) on base tokens before the update, at their temperature; None without a reference"""
