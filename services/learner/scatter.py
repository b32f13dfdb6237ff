"""Rank 0 reads the queue; this hands each rank its share of a step, and the step's orders, over the process group."""

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
    """What every rank is told before the forward pass, so that no step mixes two entropy targets."""

    kind: Literal["step", "stop", "checkpoint", "idle"]
    """idle: nothing for now, the next order comes soon; collective calls must not wait for as long as a pause lasts"""
    step: int = 0
    actuators: Actuators = NEUTRAL
    strength: float = 0.0
    """of the regularizer"""
    checkpoint_after: bool = False
    """whether a checkpoint follows the step"""
    shapes: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...] = ()


def order_of(
    batch: RolloutBatch, actuators: Actuators, *, strength: float, step: int, checkpoint_after: bool
) -> StepOrder:
    """The order that announces `batch`; all shards have its shape."""
    columns = ((f.name, getattr(batch, f.name)) for f in fields(batch))
    shapes = tuple((name, t.dtype, tuple(t.shape)) for name, t in columns)
    return StepOrder("step", step, actuators, strength, checkpoint_after, shapes)


def broadcast_order(order: StepOrder | None, device: torch.device) -> StepOrder:
    """Send rank 0's order to every rank. Other ranks pass None. device: where the process group's tensors live."""
    box: list[StepOrder | None] = [order]
    dist.broadcast_object_list(box, src=0, device=device)
    received = box[0]
    if received is None:
        raise RuntimeError("rank 0 broadcast no order")
    return received


def scatter_batch(
    order: StepOrder, shards: Sequence[RolloutBatch] | None, device: torch.device
) -> RolloutBatch:
    """Give rank r shard r, on `device`. Rank 0 passes all shards, the others None."""
    columns = {}
    for name, dtype, shape in order.shapes:
        received = torch.empty(shape, dtype=dtype, device=device)
        parts = None if shards is None else [getattr(s, name).contiguous().to(device) for s in shards]
        dist.scatter(received, parts, src=0)
        columns[name] = received
    return RolloutBatch(**columns)
