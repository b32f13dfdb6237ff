"""The contribution of one block of logits to the sums and gradients of the fused head, in PyTorch.

`trainer.head.triton_kernels` does the same on GPUs in one pass over the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sums:
    """Running sums of T tokens over the vocabulary at K temperatures, relative to the largest logit so far."""

    targets: Tensor
    """int64[T]"""
    scales: Tensor
    """[K, T], the temperatures"""
    units: list[bool]
    """bool[K], whether the temperature is 1 for every token"""
    at_one: int | None
    """index of the temperature 1 at which entropy is computed; None: no entropy"""
    top: Tensor
    """[T], largest logit"""
    chosen: Tensor
    """[T], the target's logit, 0 before its block"""
    moment: Tensor
    """[T], sum of e^z z at temperature 1"""
    totals: Tensor
    """[K, T], sum of e^(z / temperature)"""


@dataclass(frozen=True)
class Slopes:
    """What the gradient of the logits of T tokens is computed from."""

    targets: Tensor
    """int64[T]"""
    scales: Tensor
    """[K, T], the temperatures; those of log-probabilities come first"""
    units: list[bool]
    """bool[K], whether the temperature is 1 for every token"""
    at_one: int | None
    """index of the temperature 1 at which entropy is computed"""
    top: Tensor
    """[T], largest logit"""
    log_sums: Tensor
    """[K, T], log of the sum of e^((z - top) / temperature)"""
    pulls: Tensor
    """[k, T], gradient of each log-probability divided by its temperature"""
    entropy: Tensor
    """[T], nats"""
    entropy_slopes: Tensor | None
    """[T], gradient of the entropy; None: the entropy has no gradient"""


def fold(sums: Sums, rows: slice, logits: Tensor, first: int) -> None:
    """Add a block to the sums of some tokens. logits: [rows, columns], overwritten; first: the first column."""
    totals, scales = sums.totals[:, rows], sums.scales[:, rows]
    inside, place = _places(sums.targets[rows], first, logits.shape[1])
    sums.chosen[rows] += logits.gather(1, place).squeeze(1) * inside
    highest = torch.maximum(sums.top[rows], logits.amax(-1))
    fall = sums.top[rows] - highest
    sums.top[rows] = highest
    shifted = logits.sub_(highest.unsqueeze(-1))
    for k, scale in enumerate(scales):
        mass = (shifted if sums.units[k] else shifted / scale.unsqueeze(-1)).exp()
        shrink = (fall / scale).exp()
        if k == sums.at_one:
            # The sum of e^z z, with z relative to the new top.
            sums.moment[rows] = shrink * (sums.moment[rows] + fall * totals[k])
            sums.moment[rows] += torch.linalg.vecdot(mass, shifted)
        totals[k] = shrink * totals[k] + mass.sum(-1)


def slopes(of: Slopes, rows: slice, logits: Tensor, first: int, dtype: torch.dtype) -> Tensor:
    """The gradient of a block of logits, [rows, columns]. logits: same shape, overwritten; first: the first column."""
    shifted = logits.sub_(of.top[rows].unsqueeze(-1))
    pulls, log_sums = of.pulls[:, rows], of.log_sums[:, rows]
    change = torch.zeros_like(shifted)
    for k, pull in enumerate(pulls):
        tempered = shifted if of.units[k] else shifted / of.scales[k, rows].unsqueeze(-1)
        change -= (tempered - log_sums[k].unsqueeze(-1)).exp_().mul_(pull.unsqueeze(-1))
    if of.entropy_slopes is not None and of.at_one is not None:
        log_mass = shifted.sub_(log_sums[of.at_one].unsqueeze(-1))
        mass = log_mass.exp().mul_(of.entropy_slopes[rows].unsqueeze(-1))
        change -= mass.mul_(log_mass.add_(of.entropy[rows].unsqueeze(-1)))
    inside, place = _places(of.targets[rows], first, logits.shape[1])
    at_target = change.gather(1, place) + (pulls.sum(0) * inside).unsqueeze(1)
    return change.scatter_(1, place, at_target).to(dtype)


def _places(targets: Tensor, first: int, columns: int) -> tuple[Tensor, Tensor]:
    """Which targets are in a block of the vocabulary (bool[t]), and their columns in it (int64[t, 1], else 0)."""
    inside = (targets >= first) & (targets < first + columns)
    return inside, torch.where(inside, targets - first, 0).unsqueeze(1)
