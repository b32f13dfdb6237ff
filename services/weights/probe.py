"""The probe that proves which weights an engine runs: a token sequence and the learner's log-probabilities of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Probe(msgspec.Struct, frozen=True):
    """A fixed token sequence, and the learner's log-probabilities of it under one policy version."""

    tokens: list[int]
    logprobs: list[float]
    """nats at temperature 1, of tokens[1:]"""

    def deviation(self, measured: Sequence[float]) -> float:
        """Mean absolute difference to `measured`, an engine's log-probabilities of tokens[1:], nats.

        Infinite when one of them is not finite. The mean, because rounding affects single tokens and wrong weights
        affect all of them.
        """
        pairs = zip(measured, self.logprobs, strict=True)
        mean = sum(abs(ours - theirs) for ours, theirs in pairs) / len(self.logprobs)
        return mean if math.isfinite(mean) else math.inf
