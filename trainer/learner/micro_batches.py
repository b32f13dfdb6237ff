"""Splits a rank's rows into micro-batches that fit in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_micro_batches(
    rows: Tensor, lengths: Sequence[int], keys: Sequence[int], token_budget: int
) -> list[Tensor]:
    """Split row numbers so that rows times longest row of a part is at most `token_budget` tokens, or one row.

    lengths: tokens of each of `rows`; keys: rows are taken in descending order of their keys, so that the rows of a
    part are about equally long.
    """
    parts: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -keys[i]):
        longest = max(longest, lengths[index]) if parts else lengths[index]
        if not parts or (len(parts[-1]) + 1) * longest > token_budget:
            parts.append([])
            longest = lengths[index]
        parts[-1].append(index)
    return [rows[torch.tensor(part, device=rows.device)] for part in parts]


def split_to(parts: Sequence[Tensor], count: int) -> list[Tensor]:
    """Halve the part with most rows until there are `count` parts, or every part is one row."""
    divided = list(parts)
    while len(divided) < count:
        at = max(range(len(divided)), key=lambda i: len(divided[i]))
        if len(divided[at]) < 2:
            break
        divided[at : at + 1] = divided[at].tensor_split(2)
    return divided


def micro_batches(rows: Tensor, sequence_length: int, token_budget: int) -> list[Tensor]:
    """Split row numbers so that a part holds at most `token_budget` padded tokens, or one row."""
    return list(rows.split(max(1, token_budget // sequence_length)))
