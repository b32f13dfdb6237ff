"""Clip-Cov: random tokens with a large covariance are removed from the surrogate (arXiv 2505.22617).

They are drawn once per step from all base tokens with lower < cov < upper. The strength is the share removed.
"""

from __future__ import annotations

import math

import torch

from trainer.config.regularizer import ClipCovConfig
from trainer.regularizers.base import Measured, Regularizer, TokenTerms, token_advantages
from trainer.regularizers.covariance import covariance, smallest_over_ranks, tokens_of_share


class ClipCov(Regularizer):
    """Every candidate draws a random number; those with the smallest numbers over all ranks are removed."""

    def __init__(self, config: ClipCovConfig) -> None:
        self._config = config

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        cov = covariance(measured)
        candidates = (measured.mask > 0) & (cov > self._config.lower) & (cov < self._config.upper)
        draws = torch.rand(cov.shape, generator=generator, dtype=torch.float64).to(cov.device)
        dropped = smallest_over_ranks(
            draws.masked_fill(~candidates, math.inf), tokens_of_share(measured, strength)
        )
        return TokenTerms(token_advantages(measured), keep=(~dropped).to(measured.mask.dtype))
