"""Configuration of the update: loss, optimizer, and the trained parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Fraction, Positive


class LossConfig(Block):
    """The clipped surrogate of GRPO on base rollouts, and its aggregation over tokens."""

    aggregation: Literal["sequence_mean", "token_mean", "dr_grpo"] = Field(
        default="sequence_mean",
        description="sequence_mean: mean over rollouts of their token means; token_mean: mean over all tokens "
        "(DAPO); dr_grpo: sums divided by rollout.max_new_tokens, and advantages not divided by the standard "
        "deviation",
    )
    clip_low: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="the importance ratio is clipped at 1 - clip_low"
    )
    clip_high: Annotated[float, Field(gt=0, lt=10)] = Field(
        default=0.2, description="the importance ratio is clipped at 1 + clip_high"
    )
    minibatches: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="minibatches, and so optimizer updates, per step and epoch"
    )
    tis_cap: Annotated[float, Field(ge=1, le=100)] = Field(
        default=2.0,
        description="cap of the importance weight proximal / behaviour (truncated importance sampling)",
    )
    epochs: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="passes over the minibatches of a step; policy versions and staleness count steps, not epochs",
    )
    advantage_epsilon: Positive = Field(
        default=1e-6, description="added to the standard deviation of a group's rewards"
    )
    advantage_std: Literal["population", "sample"] = Field(
        default="population",
        description="standard deviation of a group's rewards: population: divided by G, as in GRPO's paper; sample: by "
        "G - 1, as torch.std and most public code",
    )
    dual_clip: Annotated[float, Field(gt=1, le=100)] | None = Field(
        default=None,
        description="for negative advantages A the surrogate is at least dual_clip A, so that a large ratio cannot "
        "make one token's loss arbitrarily large (arXiv 1912.09729); unset: off",
    )
    reference: Literal["none", "start"] = Field(
        default="none",
        description="start: the learner keeps the starting policy and reports the KL divergence from it",
    )
    kl_coefficient: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        default=0.0,
        description="coefficient of the KL divergence from the reference on base rollouts, loss per nat",
    )
    kl_estimator: Literal["k1", "k3"] = Field(
        default="k3",
        description="k3: added to the loss (GRPO); k1: log(policy / reference) is subtracted from the advantage "
        "of each token",
    )

    @model_validator(mode="after")
    def _kl_has_a_reference(self) -> LossConfig:
        if self.kl_coefficient and self.reference == "none":
            raise ValueError(
                f"kl_coefficient={self.kl_coefficient} needs loss.reference=start: there is no reference policy"
            )
        return self


class OptimizerConfig(Block):
    """AdamW. The learning rate warms up linearly and then follows `schedule`; at 0 the weights do not change."""

    learning_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=1e-4, description="learning rate after the warm-up"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="learner steps of linear warm-up"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="course of the learning rate after the warm-up"
    )
    decay_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="learner step at which a linear or cosine schedule ends; unset: `steps`",
    )
    final_share: Fraction = Field(
        default=0.0,
        description="final learning rate of a linear or cosine schedule, as a fraction of learning_rate",
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="decoupled weight decay of AdamW"
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="decay of the first moment per update"
    )
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.99, description="decay of the second moment per update"
    )
    epsilon: Positive = Field(default=1e-8, description="added to the root of the second moment")
    gradient_clip: Positive = Field(default=1.0, description="largest global gradient norm")


class LoraConfig(Block):
    """Low-rank adapters (LoRA) instead of training all weights. Generators receive merged weights."""

    rank: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="rank of the adapters; 0: train all weights"
    )
    alpha: Positive = Field(default=32.0, description="the product of the adapters is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        default=(),
        description="names of the linear layers with adapters, such as q_proj; empty: all except the output head",
    )
