"""Weights in buckets for a broadcast: the memory layout of each bucket, planned once and used by both ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import msgspec
import torch
from torch import Tensor

ALIGNMENT = 256
"""bytes; enough for any dtype on any device"""


@dataclass(frozen=True)
class Entry:
    """The position of one tensor in its bucket."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """bytes"""


@dataclass(frozen=True)
class Bucket:
    """Tensors that are broadcast together."""

    entries: tuple[Entry, ...]
    size: int
    """bytes"""


def plan(weights: Mapping[str, Tensor], bucket_bytes: int) -> list[Bucket]:
    """Assign `weights`, in their order, to buckets of at most `bucket_bytes`; a larger tensor gets its own bucket."""
    buckets: list[Bucket] = []
    entries: list[Entry] = []
    size = 0
    for name, tensor in weights.items():
        taken = -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
        if entries and size + taken > bucket_bytes:
            buckets.append(Bucket(tuple(entries), size))
            entries, size = [], 0
        entries.append(Entry(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), size))
        size += taken
    return [*buckets, Bucket(tuple(entries), size)] if entries else buckets


def pack(bucket: Bucket, weights: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Copy a bucket's tensors into one buffer, uint8[bucket.size] on `device`."""
    buffer = torch.empty(bucket.size, dtype=torch.uint8, device=device)
    for entry in bucket.entries:
        _view(buffer, entry).copy_(weights[entry.name])
    return buffer


def unpack(bucket: Bucket, buffer: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor's name and the tensor, a view of `buffer`."""
    for entry in bucket.entries:
        yield entry.name, _view(buffer, entry)


def as_text(buckets: list[Bucket]) -> str:
    """Encode as JSON, for the receiving end."""
    return msgspec.json.encode(buckets).decode()


def from_text(text: str) -> list[Bucket]:
    """Decode what `as_text` returned."""
    return msgspec.json.decode(text, type=list[Bucket])


def _view(buffer: Tensor, entry: Entry) -> Tensor:
    dtype: torch.dtype = getattr(torch, entry.dtype)
    taken = prod(entry.shape) * dtype.itemsize
    return buffer[entry.offset : entry.offset + taken].view(dtype).view(entry.shape)
