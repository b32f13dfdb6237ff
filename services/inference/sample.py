"""Responses as an engine returns them, and the policy versions that sampled their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.rollouts.trajectory import FinishReason, PolicyVersion, VersionSpan
from trainer.tasks.base import Verdict


@dataclass(frozen=True)
class Sample:
    """One sampled response. Its tokens include the end token, if one was sampled."""

    tokens: np.ndarray
    """int32[T]"""
    logprobs: np.ndarray
    """float32[T], nats"""
    finish_reason: FinishReason
    versions: list[VersionSpan]
    mask: np.ndarray | None = None
    """uint8[T], 0 for an environment's tokens; None when the policy sampled every token"""
    turns: tuple[str, ...] = ()
    """the policy's response in each turn, if the task is an environment"""
    verdict: Verdict | None = None
    """the verdict on a rollout that ended because the environment did not reply; None: the verifier's"""


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
    """Return which policy version sampled which tokens of a response of `length` tokens.

    first: the version that the request began with. switches: for each later weight load, the new version and the
    tokens that each request had by then; a request that is not listed had none.
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
