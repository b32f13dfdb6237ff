"""What an engine returns for a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.rollouts.trajectory import FinishReason, PolicyVersion, VersionSpan


@dataclass(frozen=True)
class Sample:
    """One sampled response; tokens include the end-of-sequence token where it was reached."""

    tokens: np.ndarray
    """int32[T]"""
    logprobs: np.ndarray
    """float32[T], nats"""
    finish_reason: FinishReason
    versions: list[VersionSpan]
    mask: np.ndarray | None = None
    """uint8[T], 0 for tokens of an environment; None: the policy sampled every token"""
    turns: tuple[str, ...] = ()
    """the policy's responses in turn, where the task is an environment"""


@dataclass(frozen=True)
class SeededPrompt:
    """A prompt (token ids) and the seed of each response to it."""

    tokens: list[int]
    seeds: list[int]


def version_spans(
    first: PolicyVersion,
    switches: Sequence[tuple[PolicyVersion, Mapping[str, int]]],
    request: str,
    length: int,
) -> list[VersionSpan]:
    """Which version sampled which tokens of a response of `length` tokens.

    `switches` holds, for each weight update during the life of the request's group, the tokens that each request
    had by then, those included that ended since the update before; one that is not listed had none.
    """
    spans = [VersionSpan(0, *first)]
    for version, counts in switches:
        start = counts.get(request, 0)
        if start >= length:
            break
        if spans[-1].first_token == start:
            spans.pop()
        spans.append(VersionSpan(start, *version))
    return spans
