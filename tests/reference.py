"""The SCOPE objective once more, in float64 NumPy, for the tests to compare the trainer with.

Written from the formulas of the paper (arXiv 2510.08141) rollout by rollout and token by token, and sharing
no code with `trainer`, so that an error has to be made twice to go unseen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(logits: Array, temperature: float = 1.0) -> Array:
    """log softmax(logits / temperature) over the last axis."""
    scaled = logits / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entropy(logits: Array) -> Array:
    """-sum p log p of softmax(logits), nats. [..., V] -> [...]."""
    logp = log_softmax(logits)
    return -(np.exp(logp) * logp).sum(axis=-1)


def chosen_logprobs(logits: Array, targets: NDArray[np.int64], mask: Array, temperature: Array) -> Array:
    """Log-probability of each target at its row's temperature, 0 where masked. [N, T, V] -> [N, T]."""
    out = np.zeros(targets.shape)
    for i, t in zip(*np.nonzero(mask), strict=True):
        out[i, t] = log_softmax(logits[i, t], float(temperature[i]))[targets[i, t]]
    return out


def group_advantages(rewards: Array, epsilon: float) -> Array:
    """(R - mean) / (population std + epsilon)."""
    mean = math.fsum(rewards) / len(rewards)
    variance = math.fsum((r - mean) ** 2 for r in rewards) / len(rewards)
    return np.array([(r - mean) / (math.sqrt(variance) + epsilon) for r in rewards])


@dataclass(frozen=True)
class Rollouts:
    """One step's rollouts. N rows, T columns, V tokens in the vocabulary."""

    targets: NDArray[np.int64]
    """[N, T]"""
    mask: Array
    """[N, T]; a row of zeros is a rollout that is not there"""
    temperature: Array
    """[N]"""
    behaviour: Array
    """[N, T] log-probabilities as sampled"""
    rewards: Array
    """[N]"""
    advantages: Array
    """[N]; read for base rows only"""
    auxiliary: NDArray[np.bool_]
    """[N]"""


@dataclass(frozen=True)
class Objective:
    """The settings of the objective."""

    alpha: float = 1.0
    clip_low: float = 0.2
    clip_high: float = 0.2
    cap: float = 2.0
    normalization: str = "positives"
    rho: float = 0.0


def row_weights(rollouts: Rollouts, proximal: Array, objective: Objective) -> tuple[Array, Array]:
    """Each rollout's share of the base mean and of the auxiliary sum, over the whole step. ([N], [N])."""
    present = rollouts.mask.sum(axis=1) > 0
    base, auxiliary = present & ~rollouts.auxiliary, present & rollouts.auxiliary
    base_share = np.zeros(len(present))
    if base.any():
        base_share[base] = 1 / base.sum()
    positive = auxiliary & (rollouts.rewards == 1)
    auxiliary_share = np.zeros(len(present))
    if positive.any():
        surprisal = np.array(
            [max(-p[m > 0].sum(), 1e-6) for p, m in zip(proximal, rollouts.mask, strict=True)]
        )
        powers = np.where(positive, surprisal**objective.rho, 0.0)
        total = positive.sum() / auxiliary.sum() if objective.normalization == "sum" else 1.0
        auxiliary_share = total * powers / powers.sum()
    return base_share, auxiliary_share


def loss_and_gradient(
    logits: Array,
    proximal: Array,
    rollouts: Rollouts,
    shares: tuple[Array, Array],
    objective: Objective,
) -> tuple[float, Array]:
    """-J and its gradient with respect to the current policy's logits.

    logits, gradient: [N, T, V]; proximal: [N, T]; shares: as `row_weights` gives them. The gradient flows
    through the ratio alone; a token whose clipped term is the smaller one has none.
    """
    loss, gradient = 0.0, np.zeros_like(logits)
    for i in range(len(logits)):
        length = rollouts.mask[i].sum()
        if length == 0:
            continue
        advantage = 1.0 if rollouts.auxiliary[i] else rollouts.advantages[i]
        share = shares[0][i] + objective.alpha * shares[1][i]
        for t in np.flatnonzero(rollouts.mask[i]):
            logp = log_softmax(logits[i, t], rollouts.temperature[i])
            ratio = math.exp(logp[rollouts.targets[i, t]] - proximal[i, t])
            bounded = min(max(ratio, 1 - objective.clip_low), 1 + objective.clip_high)
            weight = min(math.exp(proximal[i, t] - rollouts.behaviour[i, t]), objective.cap) * share / length
            loss -= weight * min(ratio * advantage, bounded * advantage)
            if ratio * advantage <= bounded * advantage:
                direction = -np.exp(logp)
                direction[rollouts.targets[i, t]] += 1
                gradient[i, t] = -weight * advantage * ratio * direction / rollouts.temperature[i]
    return loss, gradient
