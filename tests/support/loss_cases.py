"""Hypothesis strategies for regularizers and for steps of a few rollouts."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from tests.support.reference import (
    Objective,
    Rollouts,
    chosen_logprobs,
)

KINDS = (
    "none",
    "entropy_bonus",
    "adaptive_coefficient",
    "clip_higher",
    "clip_cov",
    "kl_cov",
    "entropy_advantage",
    "dcpo",
)
kinds = st.sampled_from(KINDS)


def present(values: torch.Tensor | None) -> torch.Tensor:
    """Return `values`, which the control must have set."""
    assert values is not None
    return values


@st.composite
def steps(draw):
    """(current logits, proximal logits, rollouts, objective): any roles, masks, temperatures and rewards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width, vocabulary = draw(st.integers(1, 8)), draw(st.integers(1, 6)), draw(st.integers(2, 12))
    auxiliary = rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    rewards = (rng.random(rows) < draw(st.sampled_from([0.0, 0.5, 1.0]))).astype(float)
    if draw(st.booleans()):  # among graded rewards only 1 counts as positive
        rewards = np.where(rng.random(rows) < 0.3, 0.5, rewards)
    mask = (rng.random((rows, width)) < draw(st.sampled_from([0.4, 1.0]))).astype(float)
    mask[rng.random(rows) < draw(st.sampled_from([0.0, 0.3]))] = 0
    proximal_logits = draw(st.sampled_from([0.3, 2.0])) * rng.normal(size=(rows, width, vocabulary))
    moved = proximal_logits + draw(st.sampled_from([0.0, 0.3, 1.5])) * rng.normal(size=proximal_logits.shape)
    targets = rng.integers(0, vocabulary, (rows, width))
    temperature = np.where(auxiliary, 1.0, rng.uniform(0.4, 2.5, rows))
    proximal = chosen_logprobs(proximal_logits, targets, mask, temperature)
    behaviour = (
        np.minimum(proximal + draw(st.sampled_from([0.0, 0.7])) * rng.normal(size=mask.shape), 0) * mask
    )
    rollouts = Rollouts(targets, mask, temperature, behaviour, rewards, rng.normal(size=rows), auxiliary)
    objective = Objective(
        alpha=draw(st.sampled_from([0.0, 1 / 64, 1.0, 4.0])),
        clip_low=draw(st.sampled_from([0.1, 0.2])),
        clip_high=draw(st.sampled_from([0.2, 0.28])),
        cap=draw(st.sampled_from([1.0, 2.0, 10.0])),
        normalization=draw(st.sampled_from(["sum", "positives"])),
        rho=draw(st.sampled_from([0.0, 1.0, 1.5, 2.0, 8.0])),
    )
    return moved, proximal_logits, rollouts, objective
