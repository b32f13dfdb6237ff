"""What makes a strict run repeatable bit for bit: seeds that follow from names, and arithmetic in one order.

Everything else is a matter of order, and belongs to the parts that could bring things out of it.
"""

from __future__ import annotations

import hashlib

_STRICT_ENVIRONMENT = {"MKL_CBWR": "AUTO", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_DYNAMIC": "FALSE"}


def compute_environment(*, strict: bool) -> dict[str, str]:
    """Environment variables of processes that compute; empty unless `strict`.

    MKL and cuBLAS otherwise choose their way by where a buffer lies in memory, and OpenMP by how busy the machine is.
    """
    return dict(_STRICT_ENVIRONMENT) if strict else {}


def rollout_seed(run_seed: int, name: str, index: int) -> int:
    """The sampling seed of rollout `index` of the group called `name`, at least 0 and below 2^62.

    It follows from the run's configured seed, not from the run's id: two runs of one configuration have equal seeds.
    """
    digest = hashlib.blake2b(f"{run_seed}/{name}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def use_deterministic_algorithms() -> None:
    """Let torch refuse, in this process, what has no deterministic algorithm (RuntimeError at its use)."""
    import torch

    torch.use_deterministic_algorithms(True)
