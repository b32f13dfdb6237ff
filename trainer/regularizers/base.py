"""The interface of a regularizer: a strength that is set once per step, and hooks that change the base surrogate.

The strength is the regularizer's main parameter. Rank 0 sets it after a step, as a control law sets alpha, and sends it
to every rank with the next step's plan. The hooks are stateless. They run on every rank at the start of a step, on
measurements of the proximal policy, so their decisions do not depend on micro-batching.

Auxiliary (SCOPE) rollouts are not affected, so a regularizer can be combined with any control law.
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
"""no clipping, since a ratio is never negative"""


@dataclass(frozen=True)
class Measured:
    """Measurements of the proximal policy on one rank's rollouts: N rollouts, T token columns; all detached."""

    advantages: Tensor
    """float[N], group-relative"""
    positive: Tensor
    """float[N], 1 for a success, see `RolloutBatch`"""
    mask: Tensor
    """float[N, T], 1 for counted tokens of base rollouts; rows of other rollouts are 0"""
    logprobs: Tensor
    """float[N, T], nats, at the sampling temperature"""
    entropy: Tensor
    """float[N, T], nats, exact at temperature 1"""
    tilted_logprobs: Tensor | None = None
    """float[N, T], nats, at `relative_temperature` times the sampling temperature; None if that is None"""


@dataclass(frozen=True)
class TokenTerms:
    """Terms of the surrogate by token; all detached. Only used where `Measured.mask` is 1."""

    advantages: Tensor
    """float[N, T]"""
    keep: Tensor | None = None
    """float[N, T], 0 for tokens removed from the surrogate; None: keep all"""
    penalty: Tensor | None = None
    """float[N, T], loss per nat of |log ratio|; None: none"""


class StrengthLaw(Protocol):
    """The law on rank 0 that sets the strength. Its state is a small dictionary, stored in the checkpoint."""

    @property
    def strength(self) -> float:
        """The strength for the next step's loss."""
        ...

    def update(self, entropy: float, entropy_target: float) -> float:
        """Decide from a step's entropy and target, nats per token; a non-finite entropy repeats the last decision."""
        ...

    def state(self) -> dict[str, float]:
        """State for the checkpoint."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpointed state of the same law, whose limits may have changed since."""
        ...


class ConstantStrength:
    """A constant strength."""

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
    """The hooks on every rank. This base class is plain GRPO; a regularizer overrides the hooks that it needs.

    Hooks may use collective operations: all ranks call them in the same order with the same strength.
    """

    def clip_range(self, strength: float) -> ClipRange | None:
        """Clipping range of base rollouts; None: the one of the `loss` block."""
        del strength
        return None

    def entropy_coefficient(self, strength: float) -> float:
        """c in loss - c * H, where H is the mean entropy of the current policy, with its gradient; 0: not computed."""
        del strength
        return 0.0

    def relative_temperature(self, strength: float) -> float | None:
        """Temperature of `Measured.tilted_logprobs` relative to the sampling temperature; None: not measured."""
        del strength
        return None

    def terms(self, measured: Measured, strength: float, generator: torch.Generator) -> TokenTerms:
        """Advantages, removed tokens and penalties by token.

        generator: on the CPU, seeded by run, step and rank.
        """
        del strength, generator
        return TokenTerms(token_advantages(measured))


def token_advantages(measured: Measured) -> Tensor:
    """The advantage of each token's rollout, float[N, T]."""
    return measured.advantages.unsqueeze(-1).expand_as(measured.mask)
