"""The buckets in which parameters are gathered."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.policy.gather import buckets


@given(sizes=st.lists(st.integers(1, 50), max_size=30), most=st.integers(1, 400), partitioned=st.booleans())
def test_buckets_keep_order_and_size(sizes: list[int], most: int, partitioned: bool) -> None:
    parameters = []
    for i, size in enumerate(sizes):
        parameter = nn.Parameter(torch.zeros(0 if partitioned else size))
        if partitioned:
            object.__setattr__(parameter, "ds_numel", size)
        parameters.append((str(i), parameter))
    found = list(buckets(parameters, most))
    assert [name for bucket in found for name, _ in bucket] == [name for name, _ in parameters]
    held = [4 * sum(sizes[int(name)] for name, _ in bucket) for bucket in found]
    assert all(size <= most or len(bucket) == 1 for bucket, size in zip(found, held, strict=True))
    first = [4 * sizes[int(bucket[0][0])] for bucket in found]
    assert all(size + after > most for size, after in zip(held, first[1:], strict=False)), (
        "two adjacent buckets would fit into one"
    )
