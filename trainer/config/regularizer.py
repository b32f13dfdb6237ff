"""Configuration of the baseline entropy controls: one block each, selected by `regularizer.kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Positive
from trainer.config.engine_limits import Temperature

Coefficient = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class EntropyBonusConfig(Block):
    """loss - coefficient * H, H the mean policy entropy of base tokens, nats."""

    coefficient: Coefficient = Field(default=0.003, description="loss per nat of mean entropy")


class AdaptiveCoefficientConfig(Block):
    """Entropy bonus whose coefficient grows while H <= H0 and shrinks above it (arXiv 2505.22312)."""

    delta: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.005, description="change of the coefficient in one step"
    )
    initial: Coefficient = Field(default=0.0, description="coefficient before the first measurement")
    maximum: Coefficient = Field(default=1.0, description="largest coefficient; the smallest is 0")

    @model_validator(mode="after")
    def _ordered(self) -> AdaptiveCoefficientConfig:
        if self.initial > self.maximum:
            raise ValueError(f"initial={self.initial} must not exceed maximum={self.maximum}")
        return self


class ClipHigherConfig(Block):
    """Asymmetric clipping range of base rollouts, in place of the loss block's (DAPO, arXiv 2503.14476)."""

    low: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.2, description="ratio at least 1 - low")
    high: Annotated[float, Field(gt=0, lt=10)] = Field(default=0.28, description="ratio at most 1 + high")


class ClipCovConfig(Block):
    """Clip-Cov: random tokens with a covariance between two bounds are removed from the loss (arXiv 2505.22617)."""

    ratio: Share = Field(
        default=2e-4, description="share of the step's base tokens removed from the loss, at least one"
    )
    lower: Annotated[float, Field(allow_inf_nan=False)] = Field(default=1.0, description="nats, exclusive")
    upper: Annotated[float, Field(allow_inf_nan=False)] = Field(default=5.0, description="nats, exclusive")

    @model_validator(mode="after")
    def _ordered(self) -> ClipCovConfig:
        if self.lower >= self.upper:
            raise ValueError(f"lower={self.lower} must be below upper={self.upper}")
        return self


class KlCovConfig(Block):
    """KL-Cov: the tokens of largest covariance get a penalty of coefficient * |log ratio| (arXiv 2505.22617)."""

    ratio: Share = Field(
        default=2e-4, description="share of the step's base tokens with the penalty, at least one"
    )
    coefficient: Coefficient = Field(default=1.0, description="loss per nat of |log ratio|")
    clipping: bool = Field(
        default=False, description="clip the ratio of base rollouts as well; False: as in the paper"
    )


class EntropyAdvantageConfig(Block):
    """Advantage A + min(alpha * H, |A| / kappa) for each token, with H detached (arXiv 2506.14758)."""

    alpha: Coefficient = Field(default=0.4, description="advantage per nat of the token's entropy")
    kappa: Annotated[float, Field(gt=1, le=1000)] = Field(
        default=2.0, description="bounds the bonus; above 1, so that no advantage changes its sign"
    )


class DcpoConfig(Block):
    """DCPO: advantages mixed with importance weights of positives for a hotter or colder policy (arXiv 2601.12730)."""

    cap: Positive = Field(default=0.1, description="cap of |H0 - H|, nats per token")
    t_cold: Temperature = Field(default=0.8, description="relative to the sampling temperature, for H > H0")
    t_hot: Temperature = Field(default=1.2, description="relative to the sampling temperature, for H < H0")


class RegularizerConfig(Block):
    """A change to the surrogate of base rollouts; independent of `entropy_control`, whose target it may use."""

    kind: Literal[
        "none",
        "entropy_bonus",
        "adaptive_coefficient",
        "clip_higher",
        "clip_cov",
        "kl_cov",
        "entropy_advantage",
        "dcpo",
    ] = Field(default="none", description="the baseline entropy control; none: plain GRPO")
    entropy_bonus: EntropyBonusConfig = EntropyBonusConfig()
    adaptive_coefficient: AdaptiveCoefficientConfig = AdaptiveCoefficientConfig()
    clip_higher: ClipHigherConfig = ClipHigherConfig()
    clip_cov: ClipCovConfig = ClipCovConfig()
    kl_cov: KlCovConfig = KlCovConfig()
    entropy_advantage: EntropyAdvantageConfig = EntropyAdvantageConfig()
    dcpo: DcpoConfig = DcpoConfig()

    @property
    def tracks_entropy_target(self) -> bool:
        """Whether this regularizer tracks `entropy_control.target`."""
        return self.kind in ("adaptive_coefficient", "dcpo")
