"""Bitwise reproducibility of strict runs: seeds derived from names, and arithmetic in a fixed order."""

from __future__ import annotations

import hashlib

_STRICT_ENVIRONMENT = {"MKL_CBWR": "AUTO", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_DYNAMIC": "FALSE"}


def compute_environment(*, strict: bool) -> dict[str, str]:
    """Environment variables of processes that compute; empty unless `strict`.

    Without them, MKL and cuBLAS choose algorithms by the memory alignment of buffers, and OpenMP by the load.
    """
    return dict(_STRICT_ENVIRONMENT) if strict else {}


def rollout_seed(run_seed: int, name: str, index: int) -> int:
    """The sampling seed of rollout `index` of the group `name`, in [0, 2^62).

    It depends on the configured seed of the run, not on the run id: runs of one configuration have equal seeds.
    """
    digest = hashlib.blake2b(f"{run_seed}/{name}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def use_deterministic_algorithms() -> None:
    """Make torch in this process raise RuntimeError for operations without a deterministic algorithm."""
    import torch

    torch.use_deterministic_algorithms(True)
