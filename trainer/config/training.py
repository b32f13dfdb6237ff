"""Configuration of an optimizer update: loss, optimizer, and what of the model is trained. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Fraction, Positive


class LossConfig(Block):
    """GRPO's clipped surrogate on base rollouts, and how its tokens are averaged."""

    aggregation: Literal["sequence_mean", "token_mean", "dr_grpo"] = Field(
        default="sequence_mean",
        description="mean over rollouts of token means; mean over all tokens (DAPO); or Dr. GRPO: sums over "
        "rollout.max_new_tokens, advantages not divided by the standard deviation",
    )
    clip_low: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="ratio at least 1 - clip_low"
    )
    clip_high: Annotated[float, Field(gt=0, lt=10)] = Field(
        default=0.2, description="ratio at most 1 + clip_high"
    )
    minibatches: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="optimizer updates a step")
    tis_cap: Annotated[float, Field(ge=1, le=100)] = Field(
        default=2.0, description="cap on proximal / behaviour"
    )
    epochs: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="passes over a step's minibatches; the policy version and staleness count steps",
    )
    advantage_epsilon: Positive = Field(default=1e-6, description="added to a group's standard deviation")
    reference: Literal["none", "start"] = Field(
        default="none",
        description="start: keep the starting policy in the learner and report the KL divergence from it",
    )
    kl_coefficient: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        default=0.0, description="loss per nat of KL divergence from the reference, on base rollouts"
    )
    kl_estimator: Literal["k1", "k3"] = Field(
        default="k3",
        description="k3: a term of the loss (GRPO); k1: log(policy / reference) is taken from each token's advantage",
    )

    @model_validator(mode="after")
    def _kl_has_a_reference(self) -> LossConfig:
        if self.kl_coefficient and self.reference == "none":
            raise ValueError(
                f"kl_coefficient={self.kl_coefficient} needs loss.reference=start: nothing to diverge from"
            )
        return self


class OptimizerConfig(Block):
    """AdamW; its rate is linearly warmed up, then follows `schedule`. A rate of 0 is the canary: nothing may move."""

    learning_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="learner steps of linear warm-up"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="what the rate does after the warm-up"
    )
    decay_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="learner step from which a linear or cosine rate stays at its end; unset: `steps`",
    )
    final_share: Fraction = Field(
        default=0.0, description="share of learning_rate at the end of a linear or cosine schedule"
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    epsilon: Positive = 1e-8
    gradient_clip: Positive = Field(default=1.0, description="global gradient norm")


class LoraConfig(Block):
    """Low-rank adapters in place of training every weight. Generators get merged weights."""

    rank: Annotated[int, Field(ge=0, le=1024)] = Field(default=0, description="0: train every weight")
    alpha: Positive = Field(default=32.0, description="the adapters' product is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        default=(),
        description="names of the linear layers that get adapters, such as q_proj; empty: all but the output head",
    )
