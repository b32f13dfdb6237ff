"""The wire format of a version's weights: the safetensors library reads back what was written."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.weights.serialization import serialize

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


def counting(dtype: torch.dtype, shape: list[int], transposed: bool) -> torch.Tensor:
    """A tensor of small numbers; transposed: not contiguous."""
    tensor = (torch.arange(torch.Size(shape).numel()) % 7).reshape(shape).to(dtype)
    return tensor.permute(tuple(reversed(range(tensor.ndim)))) if transposed else tensor


tensors = st.builds(counting, st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3), st.booleans())


@given(st.dictionaries(st.text(max_size=20), tensors, max_size=6).filter(lambda w: "__metadata__" not in w))
def test_the_library_reads_back_every_tensor(weights: dict[str, torch.Tensor]) -> None:
    read = safetensors.torch.load(serialize(weights).tobytes())
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_a_number_that_weights_are_not_made_of_is_refused() -> None:
    with pytest.raises(KeyError, match="complex64"):
        serialize({"w": torch.zeros(2, dtype=torch.complex64)})
