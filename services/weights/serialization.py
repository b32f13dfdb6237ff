"""A version's weights as one array of bytes: safetensors, written by one copy of each tensor.

The library's own `save` makes bytes of each tensor, then joins them, which took a dozen times as long as the copy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 8
"""bytes; of the first tensor, as the format asks"""

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def packed(weights: Mapping[str, Tensor]) -> np.ndarray:
    """uint8[N]. As an array it is read where it lies in Ray's object store; bytes would be copied out.

    Raises KeyError for a dtype that weights do not have.
    """
    # Wide numbers first, so that each tensor lies at a multiple of its own width.
    ordered = sorted(weights.items(), key=lambda item: -item[1].element_size())
    header, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    blob = np.empty(8 + len(text) + end, dtype=np.uint8)
    blob[:8] = np.frombuffer(len(text).to_bytes(8, "little"), dtype=np.uint8)
    blob[8 : 8 + len(text)] = np.frombuffer(text, dtype=np.uint8)
    body = torch.from_numpy(blob[8 + len(text) :])
    for name, tensor in ordered:
        begin, end = header[name]["data_offsets"]
        if begin < end:
            body[begin:end].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    return blob
