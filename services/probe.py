"""The proof that an engine runs the weights it was given: a token sequence and the learner's view of it."""

from __future__ import annotations

import msgspec


class Probe(msgspec.Struct, frozen=True):
    """A fixed token sequence with the learner's own log-probabilities of it under one policy version."""

    tokens: list[int]
    logprobs: list[float]
    """nats at temperature 1, of tokens[1:]"""
