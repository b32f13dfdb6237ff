"""KL-Cov: the tokens of largest covariance get a penalty of coefficient * |log ratio| (arXiv 2505.22617).

The paper's surrogate is not clipped; with `clipping` it is, by the range of the `loss` block. The strength is the
coefficient.
"""

from __future__ import annotations

import math

import torch

from trainer.config.regularizer import KlCovConfig
from trainer.regularizers.base import (
    UNCLIPPED,
    ClipRange,
    Measured,
    Regularizer,
    TokenTerms,
    token_advantages,
)
from trainer.regularizers.covariance import covariance, smallest_over_ranks, tokens_of_share


class KlCov(Regularizer):
    """The penalty takes effect from the second minibatch on: in the first, every ratio is 1."""

    def __init__(self, config: KlCovConfig) -> None:
        self._config = config

    def clip_range(self, strength: float) -> ClipRange | None:
        del strength
        return None if self._config.clipping else UNCLIPPED

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        del generator
        ascending = (-covariance(measured)).masked_fill(measured.mask == 0, math.inf)
        chosen = smallest_over_ranks(ascending, tokens_of_share(measured, self._config.ratio))
        return TokenTerms(token_advantages(measured), penalty=strength * chosen.to(measured.mask.dtype))
