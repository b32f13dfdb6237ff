"""Joins the learner's process group, which DeepSpeed needs before an engine exists."""

from __future__ import annotations

import os
from datetime import timedelta

import deepspeed
import deepspeed.ops
import torch.distributed as dist
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from trainer.rendezvous import connect_store, open_store, stay_on_loopback

SHARED_MEMORY_OP = "deepspeed_shm_comm"


def join_process_group(backend: str, timeout_seconds: float = 1800.0, store: Store | None = None) -> None:
    """Join the process group in which RANK and WORLD_SIZE number this process, unless it is in one.

    backend: "nccl" or "gloo"; timeout_seconds: of collective calls; store: where the ranks meet, by default one that
    rank 0 opens at MASTER_ADDR and MASTER_PORT. DeepSpeed's shared-memory collectives for CPUs are disabled: compiling
    them takes a minute on a machine's first run, needs a compiler, and pays off only with many ranks on one host.
    """
    deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
    timeout = timedelta(seconds=timeout_seconds)
    if not dist.is_initialized():
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        host = os.environ["MASTER_ADDR"]
        stay_on_loopback(host)
        if store is None:
            meet = connect_store if rank else open_store
            store = meet(host, int(os.environ["MASTER_PORT"]), size, timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, timeout=timeout)
