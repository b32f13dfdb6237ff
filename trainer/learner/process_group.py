"""Joins the learner's process group, which DeepSpeed needs before an engine exists."""

from __future__ import annotations

from datetime import timedelta

import deepspeed
import deepspeed.ops

SHARED_MEMORY_OP = "deepspeed_shm_comm"


def join_process_group(backend: str, timeout_seconds: float = 1800.0) -> None:
    """Join the process group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe, unless this process has.

    backend: "nccl" or "gloo"; timeout_seconds: of collective calls, if this call creates the group. DeepSpeed's
    shared-memory collectives for CPUs are disabled: compiling them takes a minute on a machine's first run, needs a
    compiler, and pays off only with many ranks on one host.
    """
    deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, timeout=timedelta(seconds=timeout_seconds)
    )
