"""Clip-Cov: a random few of the tokens with a large covariance are left out (arXiv 2505.22617).

Chosen once a step among all base tokens with lower < cov < upper. The strength is the share of tokens left out.
"""

from __future__ import annotations

import math

import torch

from trainer.config.regularizer import ClipCovConfig
from trainer.regularizers.base import Measured, Regularizer, TokenTerms, token_advantages
from trainer.regularizers.covariance import covariance, smallest_over_ranks, tokens_of_share


class ClipCov(Regularizer):
    """Every candidate draws a number; the smallest of all ranks are left out."""

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
