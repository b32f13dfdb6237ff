"""Entropy advantage: tokens of high entropy get a larger advantage (arXiv 2506.14758).

    A_t = A + min(alpha * H_t, |A| / kappa)

H_t is the token's exact entropy under the proximal policy, without gradient. kappa > 1 preserves every sign, and an
advantage of 0 stays 0. The strength is alpha.
"""

from __future__ import annotations

import torch

from trainer.config.regularizer import EntropyAdvantageConfig
from trainer.regularizers.base import Measured, Regularizer, TokenTerms, token_advantages


class EntropyAdvantage(Regularizer):
    """Adds the bonus to each token's advantage."""

    def __init__(self, config: EntropyAdvantageConfig) -> None:
        self._kappa = config.kappa

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        del generator
        advantages = token_advantages(measured)
        bonus = torch.minimum(strength * measured.entropy, advantages.abs() / self._kappa)
        return TokenTerms(advantages + bonus)
