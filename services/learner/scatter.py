"""Sends each step's order and each rank's share of the batch from rank 0 to the ranks, over the process group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.distributed as dist

from trainer.entropy_control import NEUTRAL, Actuators
from trainer.rollouts.batch import RolloutBatch


@dataclass(frozen=True)
class StepOrder:
    """Rank 0's order for the next step. All ranks get it before the forward pass, so no step mixes two targets."""

    kind: Literal["step", "stop", "checkpoint", "idle"]
    """idle: nothing to do, another order follows soon, so that no collective call waits for a whole pause"""
    step: int = 0
    actuators: Actuators = NEUTRAL
    strength: float = 0.0
    """the regularizer's strength"""
    checkpoint_after: bool = False
    """whether a checkpoint follows the step"""
    shapes: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...] = ()
    """name, type and shape of each tensor of a shard"""


def order_of(
    batch: RolloutBatch, actuators: Actuators, *, strength: float, step: int, checkpoint_after: bool
) -> StepOrder:
    """The order of learner step `step`. batch: one of its shards, which all have the same shapes."""
    columns = ((f.name, getattr(batch, f.name)) for f in fields(batch))
    shapes = tuple((name, t.dtype, tuple(t.shape)) for name, t in columns)
    return StepOrder("step", step, actuators, strength, checkpoint_after, shapes)


def broadcast_order(order: StepOrder | None, device: torch.device) -> StepOrder:
    """Send rank 0's order to every rank; the others pass None. Collective. device: of the process group's tensors."""
    box: list[StepOrder | None] = [order]
    dist.broadcast_object_list(box, src=0, device=device)
    received = box[0]
    if received is None:
        raise RuntimeError("rank 0 broadcast no order")
    return received


def scatter_batch(
    order: StepOrder, shards: Sequence[RolloutBatch] | None, device: torch.device
) -> RolloutBatch:
    """Send shard r to rank r, on `device`. Rank 0 passes all shards, the others None. Collective."""
    columns = {}
    for name, dtype, shape in order.shapes:
        received = torch.empty(shape, dtype=dtype, device=device)
        parts = None if shards is None else [getattr(s, name).contiguous().to(device) for s in shards]
        dist.scatter(received, parts, src=0)
        columns[name] = received
    return RolloutBatch(**columns)
