"""Batches for tests of the loss, given by the columns that matter to the test."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.rollouts.batch import RolloutBatch


def batch_of(
    mask: Tensor, behaviour_logprobs: Tensor, auxiliary: Tensor, sign: float = 1.0, **columns: Tensor
) -> RolloutBatch:
    """A batch whose base rows are groups and whose auxiliary rows are the pool; placeholders for what is not given.

    mask, behaviour_logprobs: float[N, T]; auxiliary: bool[N]; sign: of the auxiliary advantages.
    """
    rows = len(mask)
    present = mask.any(-1)
    defaults = {
        "input_ids": torch.zeros(rows, 1, dtype=torch.int64),
        "prompt_lengths": torch.ones(rows, dtype=torch.int64),
        "targets": torch.zeros(mask.shape, dtype=torch.int64),
        "mask": mask,
        "behaviour_logprobs": behaviour_logprobs,
        "temperature": mask.new_ones(rows),
        "sampling_temperature": mask.new_ones(rows),
        "advantages": mask.new_zeros(rows),
        "grouped": ~auxiliary,
        "auxiliary_advantages": sign * (auxiliary & present).to(mask.dtype),
        "rewards": mask.new_zeros(rows),
        "positive": (columns.get("rewards", mask.new_zeros(rows)) >= 1).to(mask.dtype),
        "auxiliary": auxiliary,
        "minibatch": torch.zeros(rows, dtype=torch.int64),
        "slot": torch.arange(rows),
    }
    return RolloutBatch(**(defaults | columns))
