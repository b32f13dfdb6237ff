"""Gathers the policy's parameters on rank 0's CPU from wherever ZeRO keeps them, a bucket at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import deepspeed
import torch.distributed as dist
from torch import Tensor, nn


def gather_parameters(
    parameters: Iterable[tuple[str, nn.Parameter]], *, partitioned: bool, bucket_bytes: int
) -> dict[str, Tensor] | None:
    """Copies of the whole parameters by name, on the CPU; None on ranks other than 0. Collective.

    partitioned: ranks hold parts of parameters (ZeRO-3). Gathering then takes `bucket_bytes` of device memory for a
    moment, or the size of the largest parameter if that is more.
    """
    whole: dict[str, Tensor] = {}
    for bucket in buckets(parameters, bucket_bytes):
        with deepspeed.zero.GatheredParameters([p for _, p in bucket], enabled=partitioned):
            if dist.get_rank() == 0:
                whole |= {name: p.detach().to("cpu", copy=True).contiguous() for name, p in bucket}
    return whole if dist.get_rank() == 0 else None


def buckets(
    parameters: Iterable[tuple[str, nn.Parameter]], most_bytes: int
) -> Iterator[list[tuple[str, nn.Parameter]]]:
    """Group neighbouring parameters into buckets of at most `most_bytes`; a larger parameter is alone in its bucket."""
    bucket: list[tuple[str, nn.Parameter]] = []
    filled = 0
    for name, parameter in parameters:
        # Under ZeRO-3 a parameter has size 0 until it is gathered.
        size = getattr(parameter, "ds_numel", parameter.numel()) * parameter.element_size()
        if bucket and filled + size > most_bytes:
            yield bucket
            bucket, filled = [], 0
        bucket.append((name, parameter))
        filled += size
    if bucket:
        yield bucket
