"""The standard error of a step's entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.distributed.ranks import Ranks
from trainer.config import RunConfig
from trainer.learner.entropy_error import entropy_error
from trainer.rollouts.batch import RolloutBatch, shard_batches

PROMPTS, SAMPLES, TOKENS = 24, 8, 6
CONFIG = RunConfig.model_validate(
    {"rollout": {"prompts_per_step": PROMPTS, "base_samples": SAMPLES, "adaptive_samples": 2}}
)
(MISSING,) = shard_batches([], CONFIG)
BASE = MISSING.select((~MISSING.auxiliary).nonzero().squeeze(-1))
"""rows of a step in which every group is missing: in place, without tokens"""


def batch_and_entropy(seed: int, *, shared: float, own: float = 0.3) -> tuple[RolloutBatch, torch.Tensor]:
    """Rollouts of random lengths, and entropies that vary by prompt (`shared`) and by rollout (`own`)."""
    rng = np.random.default_rng(seed)
    rows = PROMPTS * SAMPLES
    lengths = rng.integers(1, TOKENS + 1, (rows, 1))
    mask = torch.from_numpy((np.arange(TOKENS) < lengths).astype(np.float32))
    of_prompt = np.repeat(shared * rng.standard_normal(PROMPTS), SAMPLES)
    entropy = 1 + of_prompt + own * rng.standard_normal(rows)
    batch = RolloutBatch(**{**vars(BASE), "mask": mask})
    return batch, torch.from_numpy(entropy).unsqueeze(-1) * mask


def mean(batch: RolloutBatch, entropy: torch.Tensor) -> float:
    return float((entropy * batch.mask).sum() / batch.mask.sum())


@pytest.mark.parametrize("shared", [0.0, 0.3])
def test_the_error_is_the_scatter_of_the_entropy_from_step_to_step(shared: float) -> None:
    steps = [batch_and_entropy(seed, shared=shared) for seed in range(150)]
    scatter = np.std([mean(*step) for step in steps])
    errors = [entropy_error(*step) for step in steps]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(scatter, rel=0.15)


def test_ranks_with_different_prompts_find_the_error_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, entropy = batch_and_entropy(0, shared=0.3)
    whole = entropy_error(batch, entropy)
    shares = [(batch.slot % 2 == rank).nonzero().squeeze(-1) for rank in range(2)]
    found = Ranks(2).run(
        monkeypatch, [lambda rows=rows: entropy_error(batch.select(rows), entropy[rows]) for rows in shares]
    )
    assert found == pytest.approx([whole, whole])


def test_only_base_tokens_count() -> None:
    batch, entropy = batch_and_entropy(0, shared=0.3)
    alone = entropy_error(batch, entropy)
    auxiliary = RolloutBatch(**{**vars(batch), "auxiliary": torch.ones_like(batch.auxiliary)})
    both = RolloutBatch(
        **{name: torch.cat([column, getattr(auxiliary, name)]) for name, column in vars(batch).items()}
    )
    assert entropy_error(both, torch.cat([entropy, 100 * entropy])) == pytest.approx(alone)
    unscored = batch.mask * (batch.slot > 0).unsqueeze(-1)
    masked = RolloutBatch(**{**vars(batch), "mask": unscored})
    kept = batch.slot > 0
    assert entropy_error(masked, entropy) == pytest.approx(entropy_error(batch.select(kept), entropy[kept]))


def test_fewer_than_two_prompts_have_no_error() -> None:
    batch, entropy = batch_and_entropy(0, shared=0.3)
    first = batch.slot == 0
    assert math.isnan(entropy_error(batch.select(first), entropy[first]))
