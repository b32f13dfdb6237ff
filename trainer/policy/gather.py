"""The whole policy on rank 0's CPU, wherever ZeRO keeps its parts: gathered in buckets, never all on one device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import deepspeed
import torch.distributed as dist
from torch import Tensor, nn


def gather_parameters(
    parameters: Iterable[tuple[str, nn.Parameter]], *, partitioned: bool, bucket_bytes: int
) -> dict[str, Tensor] | None:
    """The named parameters, whole, copied to the CPU; on rank 0 only, None elsewhere. Collective.

    partitioned: whether ranks hold parts of parameters (ZeRO-3). A device then holds `bucket_bytes` more for the
    moment, or the largest parameter if that is more.
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
    """Neighbours together, as many as fit; a parameter that is larger than a bucket is alone."""
    bucket: list[tuple[str, nn.Parameter]] = []
    held = 0
    for name, parameter in parameters:
        # Under ZeRO-3 a parameter's own size is that of nothing until it is gathered.
        size = getattr(parameter, "ds_numel", parameter.numel()) * parameter.element_size()
        if bucket and held + size > most_bytes:
            yield bucket
            bucket, held = [], 0
        bucket.append((name, parameter))
        held += size
    if bucket:
        yield bucket
