"""`trainer.head.blocks` on GPUs: one Triton program per token, which reads the logits of the block once.

In PyTorch each exponential, sum and product is a separate pass over the logits in memory, and together they take longer
than the matrix products around them.
"""

# ruff: noqa: ANN001, ANN202 - Triton types the arguments of kernels
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trainer.head.blocks import Slopes, Sums


def fold(sums: Sums, rows: slice, logits: Tensor, first: int) -> None:
    """See `trainer.head.blocks.fold`. logits: float32, contiguous."""
    totals = sums.totals[:, rows]
    _fold[(len(logits),)](
        logits,
        sums.targets[rows],
        sums.scales[:, rows],
        sums.top[rows],
        sums.chosen[rows],
        sums.moment[rows],
        totals,
        first,
        logits.shape[1],
        totals.stride(0),
        TEMPERATURES=len(totals),
        AT_ONE=-1 if sums.at_one is None else sums.at_one,
        **_shape(logits),
    )


def slopes(of: Slopes, rows: slice, logits: Tensor, first: int, dtype: torch.dtype) -> Tensor:
    """See `trainer.head.blocks.slopes`. logits: float32, contiguous, not overwritten."""
    change = torch.empty_like(logits, dtype=dtype)
    entropy_slopes = of.entropy if of.entropy_slopes is None else of.entropy_slopes
    _slopes[(len(logits),)](
        logits,
        change,
        of.targets[rows],
        of.scales[:, rows],
        of.top[rows],
        of.log_sums[:, rows],
        of.pulls[:, rows],
        of.entropy[rows],
        entropy_slopes[rows],
        first,
        logits.shape[1],
        of.scales.stride(0),
        TEMPERATURES=len(of.pulls),
        AT_ONE=-1 if of.at_one is None or of.entropy_slopes is None else of.at_one,
        **_shape(logits),
    )
    return change


def _shape(logits: Tensor) -> dict[str, Any]:
    width = triton.next_power_of_2(logits.shape[1])
    return {"WIDTH": width, "num_warps": min(max(width // 512, 1), 16)}


@triton.jit
def _fold(
    logits,
    targets,
    scales,
    top,
    chosen,
    moment,
    totals,
    first,
    columns,
    tokens,
    TEMPERATURES: tl.constexpr,
    AT_ONE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """tokens: stride of the rows of `scales` and `totals`, elements."""
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    valid = column < columns
    block = tl.load(logits + row.to(tl.int64) * columns + column, mask=valid, other=float("-inf"))
    target = tl.load(targets + row) - first
    picked = tl.sum(tl.where(valid & (column == target), block, 0.0))
    tl.store(chosen + row, tl.load(chosen + row) + picked)
    old = tl.load(top + row)
    highest = tl.maximum(old, tl.max(block))
    tl.store(top + row, highest)
    fall = old - highest
    shifted = block - highest
    for k in tl.static_range(TEMPERATURES):
        scale = tl.load(scales + k * tokens + row)
        total = tl.load(totals + k * tokens + row)
        mass = tl.exp(shifted / scale)
        shrink = tl.exp(fall / scale)
        if k == AT_ONE:
            added = tl.sum(tl.where(valid, mass * shifted, 0.0))
            tl.store(moment + row, shrink * (tl.load(moment + row) + fall * total) + added)
        tl.store(totals + k * tokens + row, shrink * total + tl.sum(mass))


@triton.jit
def _slopes(
    logits,
    change,
    targets,
    scales,
    top,
    log_sums,
    pulls,
    entropy,
    entropy_slopes,
    first,
    columns,
    tokens,
    TEMPERATURES: tl.constexpr,
    AT_ONE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """tokens: stride of the rows of `scales`, `log_sums` and `pulls`, elements. AT_ONE: -1 without entropy gradient."""
    row = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    valid = column < columns
    place = row.to(tl.int64) * columns + column
    shifted = tl.load(logits + place, mask=valid, other=0.0) - tl.load(top + row)
    slope = tl.zeros_like(shifted)
    pulled = 0.0
    for k in tl.static_range(TEMPERATURES):
        pull = tl.load(pulls + k * tokens + row)
        scale = tl.load(scales + k * tokens + row)
        slope -= pull * tl.exp(shifted / scale - tl.load(log_sums + k * tokens + row))
        pulled += pull
    if AT_ONE >= 0:
        log_mass = shifted - tl.load(log_sums + AT_ONE * tokens + row)
        mass = tl.load(entropy_slopes + row) * tl.exp(log_mass)
        slope -= mass * (log_mass + tl.load(entropy + row))
    slope += tl.where(column == tl.load(targets + row) - first, pulled, 0.0)
    tl.store(change + place, slope.to(change.dtype.element_ty), mask=valid)
