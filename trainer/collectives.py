"""Reductions and gathers over learner ranks. Without a process group, this process is the only rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This rank's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Elementwise sum of every rank's `values` (same shape on all), as a new tensor."""
    total = values.clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def max_over_ranks(values: Tensor) -> Tensor:
    """Elementwise maximum of every rank's `values` (same shape on all), as a new tensor."""
    most = values.clone()
    if dist.is_initialized():
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return most


def gather_over_ranks(values: Tensor) -> Tensor:
    """Every rank's `values` (same shape on all), in the order of ranks. [...] -> [ranks, ...]."""
    if not dist.is_initialized():
        return values.unsqueeze(0)
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.stack(parts)
