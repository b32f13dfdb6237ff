"""What a rival entropy control is: a strength decided once a step, and hooks that change the base surrogate.

The strength is the control's main parameter. Rank 0 decides it after a step, as a control law decides alpha, and
it travels with the next step's order to every rank. The hooks are stateless and run on every rank at the start of
a step, on what the proximal policy measured, so that micro-batches cannot change what they decide.

Auxiliary (SCOPE) rollouts are never touched: a regularizer can be combined with any control law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class ClipRange(NamedTuple):
    """The importance ratio is clipped to [1 - low, 1 + high]."""

    low: float
    high: float


UNCLIPPED = ClipRange(1.0, float("inf"))
"""A ratio is never negative, so this leaves it as it is."""


@dataclass(frozen=True)
class Measured:
    """One rank's rollouts as the proximal policy sees them. N rows, T token columns; all detached."""

    advantages: Tensor
    """float[N], group-relative"""
    rewards: Tensor
    """float[N]"""
    mask: Tensor
    """float[N, T], 1 where a token of a base rollout counts; rows of other rollouts are 0"""
    logprobs: Tensor
    """float[N, T], nats, at the sampling temperature"""
    entropy: Tensor
    """float[N, T], nats, exact at temperature 1"""
    tilted_logprobs: Tensor | None = None
    """float[N, T], nats, at `relative_temperature` times the sampling temperature, where it was asked for"""


@dataclass(frozen=True)
class TokenTerms:
    """What the surrogate is made of, token by token; all detached. Read only where `Measured.mask` is 1."""

    advantages: Tensor
    """float[N, T]"""
    keep: Tensor | None = None
    """float[N, T], 0 where the surrogate is left out; None: nowhere"""
    penalty: Tensor | None = None
    """float[N, T], loss per nat of |log ratio|; None: none"""


class StrengthLaw(Protocol):
    """The part that rank 0 holds: pure, its state a small dictionary in the checkpoint."""

    @property
    def strength(self) -> float:
        """What the next step's loss uses."""
        ...

    def update(self, entropy: float, entropy_target: float) -> float:
        """Decide from a step's entropy and its target, nats per token; a non-finite entropy holds the last decision."""
        ...

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state."""
        ...


class ConstantStrength:
    """A strength that nothing changes."""

    def __init__(self, strength: float) -> None:
        self._strength = strength

    @property
    def strength(self) -> float:
        return self._strength

    def update(self, entropy: float, entropy_target: float) -> float:
        del entropy, entropy_target
        return self._strength

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        del state


class Regularizer:
    """The part that every rank holds. As it stands it is plain GRPO; a control overrides the hooks it needs.

    Hooks may call collectives: all ranks call them in the same order with the same strength.
    """

    def clip_range(self, strength: float) -> ClipRange | None:
        """Clipping range of base rollouts in place of the loss block's; None keeps that one."""
        del strength
        return None

    def entropy_coefficient(self, strength: float) -> float:
        """c in loss - c * H, with the gradient of the current policy's mean entropy; 0 computes none."""
        del strength
        return 0.0

    def relative_temperature(self, strength: float) -> float | None:
        """Of `Measured.tilted_logprobs`, relative to the sampling temperature; None measures none."""
        del strength
        return None

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        """Per-token advantages, what is left out and what pays a penalty.

        generator: on the CPU, seeded for this run, step and rank.
        """
        del strength, generator
        return TokenTerms(token_advantages(measured))


def token_advantages(measured: Measured) -> Tensor:
    """Every token with its rollout's advantage. -> float[N, T]."""
    return measured.advantages.unsqueeze(-1).expand_as(measured.mask)
