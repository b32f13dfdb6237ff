"""A second implementation of the SCOPE objective, in float64 NumPy, that the tests compare the trainer with.

It follows the formulas of the paper (arXiv 2510.08141) rollout by rollout and token by token and shares no code with
`trainer`: an error goes unseen only if both implementations make it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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


def group_advantages(rewards: Array, epsilon: float, *, standardized: bool = True) -> Array:
    """(R - mean) / (population std + epsilon), or R - mean."""
    mean = math.fsum(rewards) / len(rewards)
    if not standardized:
        return np.array([r - mean for r in rewards])
    variance = math.fsum((r - mean) ** 2 for r in rewards) / len(rewards)
    return np.array([(r - mean) / (math.sqrt(variance) + epsilon) for r in rewards])


@dataclass(frozen=True)
class Rollouts:
    """One step's rollouts. N rows, T columns, V tokens in the vocabulary."""

    targets: NDArray[np.int64]
    """[N, T]"""
    mask: Array
    """[N, T]; a row of zeros is a missing rollout"""
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
    normalization: Literal["sum", "positives"] = "positives"
    samples: str = "positives"
    """which auxiliary rollouts are learned from; "negatives" makes the failed ones less likely"""
    rho: float = 0.0
    floor: float = 0.0
    """effective number of positives below which the normalization `positives` weighs them less"""
    aggregation: str = "sequence_mean"
    budget: int = 1
    """the token count that Dr. GRPO divides by"""


@dataclass(frozen=True)
class Shape:
    """How a rival control changes the loss of base rollouts; auxiliary rows of the arrays are ignored."""

    advantages: Array
    """[N, T]"""
    keep: Array
    """[N, T], 0 where a token's surrogate is left out"""
    penalty: Array
    """[N, T], loss per nat of |log ratio|"""
    clip: tuple[float, float] | None = None
    """(low, high) in place of the objective's"""
    bonus: float = 0.0
    """loss per nat of the mean entropy over all base tokens of the step"""


def plain_shape(rollouts: Rollouts) -> Shape:
    """GRPO: a rollout's advantage at each of its tokens."""
    advantages = np.array([[a] * rollouts.mask.shape[1] for a in rollouts.advantages])
    return Shape(advantages, np.ones_like(rollouts.mask), np.zeros_like(rollouts.mask))


def base_tokens(rollouts: Rollouts) -> list[tuple[int, int]]:
    """Indices (row, token) of the unmasked tokens of base rollouts."""
    return [(i, t) for i, t in zip(*np.nonzero(rollouts.mask), strict=True) if not rollouts.auxiliary[i]]


def covariances(rollouts: Rollouts, proximal: Array) -> dict[tuple[int, int], float]:
    """(A - mean A) (log pi - mean log pi) of each base token, with means over all base tokens (arXiv 2505.22617)."""
    places = base_tokens(rollouts)
    mean_a = math.fsum(rollouts.advantages[i] for i, _ in places) / max(1, len(places))
    mean_logp = math.fsum(proximal[place] for place in places) / max(1, len(places))
    return {(i, t): (rollouts.advantages[i] - mean_a) * (proximal[i, t] - mean_logp) for i, t in places}


def kl_cov(rollouts: Rollouts, proximal: Array, count: int, coefficient: float) -> Shape:
    """The `count` tokens with the largest covariance are penalised; the ratio is not clipped."""
    shape = plain_shape(rollouts)
    cov = covariances(rollouts, proximal)
    for place in sorted(cov, key=lambda place: -cov[place])[:count]:
        shape.penalty[place] = coefficient
    return Shape(shape.advantages, shape.keep, shape.penalty, clip=(1.0, math.inf))


def clip_cov_candidates(
    rollouts: Rollouts, proximal: Array, lower: float, upper: float
) -> list[tuple[int, int]]:
    """Tokens eligible for exclusion by Clip-Cov."""
    return [place for place, cov in covariances(rollouts, proximal).items() if lower < cov < upper]


def entropy_advantage(rollouts: Rollouts, entropies: Array, alpha: float, kappa: float) -> Shape:
    """A + min(alpha H, |A| / kappa) (arXiv 2506.14758)."""
    shape = plain_shape(rollouts)
    for i, t in base_tokens(rollouts):
        shape.advantages[i, t] += min(alpha * entropies[i, t], abs(rollouts.advantages[i]) / kappa)
    return shape


def dcpo(rollouts: Rollouts, proximal: Array, tilted: Array, error: float) -> Shape:
    """(1 - a) A + a 1[R = 1] pi^T / pi (arXiv 2601.12730); error: H0 - H after the cap, nats."""
    shape = plain_shape(rollouts)
    rows = {i for i, _ in base_tokens(rollouts)}
    solved = [i for i in rows if rollouts.rewards[i] == 1]
    if not solved:
        return shape
    b = abs(error) / (len(solved) / len(rows))
    for i, t in base_tokens(rollouts):
        target = math.exp(tilted[i, t] - proximal[i, t]) if i in solved else 0.0
        shape.advantages[i, t] = (rollouts.advantages[i] + b * target) / (1 + b)
    return shape


def row_weights(rollouts: Rollouts, proximal: Array, objective: Objective) -> tuple[Array, Array]:
    """Each rollout's weight in the base mean and in the auxiliary sum over the whole step. ([N], [N])."""
    present = rollouts.mask.sum(axis=1) > 0
    base, auxiliary = present & ~rollouts.auxiliary, present & rollouts.auxiliary
    base_share = np.zeros(len(present))
    lengths = rollouts.mask.sum(axis=1)
    for i in np.flatnonzero(base):
        base_share[i] = {
            "sequence_mean": 1 / base.sum(),
            "token_mean": lengths[i] / lengths[base].sum(),
            "dr_grpo": lengths[i] / objective.budget / base.sum(),
        }[objective.aggregation]
    success = rollouts.rewards == 1
    chosen = auxiliary & (success if objective.samples == "positives" else ~success)
    auxiliary_share = np.zeros(len(present))
    if chosen.any():
        surprisal = np.array(
            [max(-p[m > 0].sum(), 1e-6) for p, m in zip(proximal, rollouts.mask, strict=True)]
        )
        powers = np.where(chosen, surprisal**objective.rho, 0.0)
        total = chosen.sum() / auxiliary.sum() if objective.normalization == "sum" else 1.0
        if objective.floor and objective.normalization == "positives":
            total = min(1.0, powers.sum() ** 2 / (powers**2).sum() / objective.floor)
        auxiliary_share = total * powers / powers.sum()
    return base_share, auxiliary_share


def loss_and_gradient(
    logits: Array,
    proximal: Array,
    rollouts: Rollouts,
    shares: tuple[Array, Array],
    objective: Objective,
    shape: Shape | None = None,
    entropy_share: float = 0.0,
) -> tuple[float, Array]:
    """-J and its gradient with respect to the current policy's logits.

    logits, gradient: [N, T, V]; proximal: [N, T]; shares: the result of `row_weights`; entropy_share: weight of each
    base token's entropy in the bonus. The gradient flows through the ratio, and through the entropy if there is an
    entropy bonus; a token for which the clipped term is the smaller one has no gradient.
    """
    shape = shape or plain_shape(rollouts)
    loss, gradient = 0.0, np.zeros_like(logits)
    for i in range(len(logits)):
        length = rollouts.mask[i].sum()
        if length == 0:
            continue
        base = not rollouts.auxiliary[i]
        share = shares[0][i] + objective.alpha * shares[1][i]
        low, high = (base and shape.clip) or (objective.clip_low, objective.clip_high)
        for t in np.flatnonzero(rollouts.mask[i]):
            direct = 1.0 if objective.samples == "positives" else -1.0
            advantage = shape.advantages[i, t] if base else direct
            keep, penalty = (shape.keep[i, t], shape.penalty[i, t]) if base else (1.0, 0.0)
            logp = log_softmax(logits[i, t], rollouts.temperature[i])
            log_ratio = logp[rollouts.targets[i, t]] - proximal[i, t]
            ratio = math.exp(log_ratio)
            bounded = min(max(ratio, 1 - low), 1 + high)
            weight = min(math.exp(proximal[i, t] - rollouts.behaviour[i, t]), objective.cap) * share / length
            loss -= weight * (keep * min(ratio * advantage, bounded * advantage) - penalty * abs(log_ratio))
            slope = keep * advantage * ratio if ratio * advantage <= bounded * advantage else 0.0
            slope -= penalty * np.sign(log_ratio)
            direction = -np.exp(logp)
            direction[rollouts.targets[i, t]] += 1
            gradient[i, t] = -weight * slope * direction / rollouts.temperature[i]
            if base and shape.bonus:
                at_one = log_softmax(logits[i, t])
                nats = -float((np.exp(at_one) * at_one).sum())
                loss -= shape.bonus * entropy_share * nats
                gradient[i, t] += shape.bonus * entropy_share * np.exp(at_one) * (at_one + nats)
    return loss, gradient
