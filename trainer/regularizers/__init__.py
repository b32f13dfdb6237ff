"""Baseline entropy controls from the literature, one file each, selected by `regularizer.kind`."""

from trainer.config.regularizer import RegularizerConfig
from trainer.regularizers.adaptive_coefficient import AdaptiveCoefficient
from trainer.regularizers.base import (
    ClipRange,
    ConstantStrength,
    Measured,
    Regularizer,
    StrengthLaw,
    TokenTerms,
)
from trainer.regularizers.clip_cov import ClipCov
from trainer.regularizers.clip_higher import ClipHigher
from trainer.regularizers.dcpo import Dcpo, SignedError
from trainer.regularizers.entropy_advantage import EntropyAdvantage
from trainer.regularizers.entropy_bonus import EntropyBonus
from trainer.regularizers.kl_cov import KlCov

__all__ = [
    "ClipRange",
    "Measured",
    "Regularizer",
    "StrengthLaw",
    "TokenTerms",
    "make_regularizer",
    "make_strength_law",
]


def make_regularizer(config: RegularizerConfig) -> Regularizer:
    """The hooks of the regularizer that `regularizer.kind` selects."""
    match config.kind:
        case "none":
            return Regularizer()
        case "entropy_bonus" | "adaptive_coefficient":
            return EntropyBonus()
        case "clip_higher":
            return ClipHigher(config.clip_higher)
        case "clip_cov":
            return ClipCov(config.clip_cov)
        case "kl_cov":
            return KlCov(config.kl_cov)
        case "entropy_advantage":
            return EntropyAdvantage(config.entropy_advantage)
        case "dcpo":
            return Dcpo(config.dcpo)


def make_strength_law(config: RegularizerConfig) -> StrengthLaw:
    """The law that sets the strength of the regularizer that `regularizer.kind` selects."""
    match config.kind:
        case "none":
            return ConstantStrength(0.0)
        case "entropy_bonus":
            return ConstantStrength(config.entropy_bonus.coefficient)
        case "adaptive_coefficient":
            return AdaptiveCoefficient(config.adaptive_coefficient)
        case "clip_higher":
            return ConstantStrength(config.clip_higher.high)
        case "clip_cov":
            return ConstantStrength(config.clip_cov.ratio)
        case "kl_cov":
            return ConstantStrength(config.kl_cov.coefficient)
        case "entropy_advantage":
            return ConstantStrength(config.entropy_advantage.alpha)
        case "dcpo":
            return SignedError(config.dcpo)
