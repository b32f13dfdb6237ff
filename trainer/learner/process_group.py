"""Joining the learner's process group: what DeepSpeed needs before an engine exists."""

from __future__ import annotations

from datetime import timedelta

import deepspeed
import deepspeed.ops

SHARED_MEMORY_OP = "deepspeed_shm_comm"


def join_process_group(backend: str, timeout_seconds: float = 1800.0) -> None:
    """Join the group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe, or that this process has joined.

    backend: "nccl" or "gloo". timeout_seconds: of the group's collective calls, if this makes the group.
    DeepSpeed would compile its shared-memory collectives for CPUs here, a minute and more on the first run of a machine
    and only of use where the ranks of one host are many. gloo does without, and without a compiler.
    """
    deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, timeout=timedelta(seconds=timeout_seconds)
    )
