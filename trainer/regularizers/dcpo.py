"""DCPO: importance weights move positives towards a hotter or colder policy without sampling it (arXiv 2601.12730).

    A_t <- (1 - a) A + a 1[R = 1] pi^T_t / pi_t,   a = b / (1 + b),   b = min(|H0 - H|, cap) / pass rate

T is t_hot where H < H0, else t_cold. pi is the proximal policy at the sampling temperature, pi^T the same logits at T
times that temperature; the pass rate is that of the step's base rollouts. H is the entropy of the previous step. The
strength is the signed error clip(H0 - H, -cap, cap), nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from trainer.collectives import sum_over_ranks
from trainer.config.regularizer import DcpoConfig
from trainer.head.log_ratio import bounded, log_ratio
from trainer.regularizers.base import Measured, Regularizer, TokenTerms, token_advantages


class SignedError:
    """clip(H0 - H, -cap, cap), nats; 0 (plain GRPO) before the first measurement."""

    def __init__(self, config: DcpoConfig) -> None:
        self._cap = config.cap
        self._error = 0.0

    @property
    def strength(self) -> float:
        return self._error

    def update(self, entropy: float, entropy_target: float) -> float:
        if math.isfinite(entropy):
            self._error = min(max(entropy_target - entropy, -self._cap), self._cap)
        return self._error

    def state(self) -> dict[str, float]:
        return {"error": self._error}

    def restore(self, state: Mapping[str, float]) -> None:
        self._error = min(max(state["error"], -self._cap), self._cap)


class Dcpo(Regularizer):
    """Mixes advantages with importance weights; a step without positives or without error is plain GRPO."""

    def __init__(self, config: DcpoConfig) -> None:
        self._config = config

    def relative_temperature(self, strength: float) -> float | None:
        if strength == 0:
            return None
        return self._config.t_hot if strength > 0 else self._config.t_cold

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        del generator
        advantages = token_advantages(measured)
        if measured.tilted_logprobs is None:
            return TokenTerms(advantages)
        present = (measured.mask.sum(-1) > 0).double()
        successes = measured.positive.double() * present
        passed, rollouts = sum_over_ranks(torch.stack([successes.sum(), present.sum()])).tolist()
        if passed == 0:
            return TokenTerms(advantages)
        b = abs(strength) * rollouts / passed
        mix = b / (1 + b)
        tilt = bounded(log_ratio(measured.tilted_logprobs, measured.logprobs, measured.mask))
        weights = tilt.exp() * successes.unsqueeze(-1)
        return TokenTerms(((1 - mix) * advantages + mix * weights).to(advantages.dtype))
