"""How the ranks of a learner find each other under Ray Train.

Ray Train would form the process group itself, with a store that listens on every address of rank 0's machine. Here rank
0 opens one on the address of its Ray node alone, which is loopback in a local cluster.
"""

from __future__ import annotations

import os
from datetime import timedelta

import ray
import ray.train
from ray.train.backend import Backend
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig

from trainer.learner.process_group import join_process_group
from trainer.rendezvous import connect_store, open_store


class _NoProcessGroup(Backend):
    share_cuda_visible_devices = True


class RankConfig(TorchConfig):
    """Ray Train's set-up of a rank's process, without a process group."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train starts before the ranks run: nothing."""
        return _NoProcessGroup


def join_ranks(backend: str, timeout_seconds: float) -> None:
    """Join the other ranks of this Ray Train job in a process group. Every rank calls it.

    backend: "nccl" or "gloo"; timeout_seconds: of the rendezvous and of collective calls.
    """
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    timeout = timedelta(seconds=timeout_seconds)
    if rank == 0:
        host = ray.util.get_node_ip_address()
        store = open_store(host, 0, size, timeout)
        broadcast_from_rank_zero({"host": host, "port": store.port})
    else:
        place = broadcast_from_rank_zero(None)
        assert place is not None
        host = place["host"]
        store = connect_store(host, place["port"], size, timeout)
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(size)
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    os.environ["LOCAL_WORLD_SIZE"] = str(context.get_local_world_size())
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = host, str(store.port)
    join_process_group(backend, timeout_seconds, store)
