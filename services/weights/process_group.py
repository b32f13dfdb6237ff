"""A process group that broadcasts weights from rank 0, and does nothing else: NCCL between GPUs, gloo between CPUs.

It is separate from the process groups of the learner and of tensor-parallel engines. Its members never change: when a
generator comes or goes, a new group is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from trainer.rendezvous import connect_store, open_store

Backend = Literal["gloo", "nccl"]


class TransferError(RuntimeError):
    """Weights did not arrive. The receivers keep the version they run."""


@dataclass(frozen=True)
class Rendezvous:
    """The address at which the members of a group connect, and how they then communicate."""

    host: str
    port: int
    size: int
    backend: Backend
    seconds: float
    """timeout of the rendezvous, and of each broadcast"""

    def as_text(self) -> str:
        """Encode as JSON, for an engine's workers."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_text(text: str) -> Rendezvous:
        """Decode what `as_text` returned."""
        return msgspec.json.decode(text, type=Rendezvous)


def open_rendezvous(host: str, size: int, backend: Backend, seconds: float) -> tuple[TCPStore, Rendezvous]:
    """Open a store on a free port of `host`, an address of rank 0's machine. Does not wait for the other ranks.

    size: members of the group. seconds: timeout of the rendezvous and of each broadcast.
    """
    store = open_store(host, 0, size, timedelta(seconds=seconds))
    return store, Rendezvous(host, store.port, size, backend, seconds)


class WeightGroup:
    """One member of the group. Raises TransferError when not every member joins in time.

    device: of the buffers. store: the one that `open_rendezvous` returned, on rank 0 only.
    """

    def __init__(
        self, rendezvous: Rendezvous, rank: int, device: torch.device, store: TCPStore | None = None
    ) -> None:
        self._timeout = timedelta(seconds=rendezvous.seconds)
        try:
            self._store = store or connect_store(
                rendezvous.host, rendezvous.port, rendezvous.size, self._timeout
            )
            self._group = _process_group(self._store, rendezvous, rank, device, self._timeout)
        except RuntimeError as error:
            raise TransferError(
                f"rank {rank} of {rendezvous.size} did not connect to all members at "
                f"{rendezvous.host}:{rendezvous.port}: {error}"
            ) from error

    def broadcast(self, buffer: Tensor) -> None:
        """Copy rank 0's `buffer` into every member's; returns when it has arrived.

        Raises TransferError when a member is lost.
        """
        try:
            self._group.broadcast(buffer, 0).wait(self._timeout)
            if buffer.is_cuda:
                torch.cuda.current_stream(buffer.device).synchronize()
        except RuntimeError as error:
            raise TransferError(
                f"a broadcast of {buffer.nbytes:,} bytes of weights failed: {error}"
            ) from error


def _process_group(
    store: TCPStore, rendezvous: Rendezvous, rank: int, device: torch.device, timeout: timedelta
) -> Any:
    prefixed = PrefixStore("weights", store)
    if rendezvous.backend == "gloo":
        from torch.distributed import ProcessGroupGloo

        return ProcessGroupGloo(prefixed, rank, rendezvous.size, timeout)
    from torch.distributed import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = timeout
    group: Any = ProcessGroupNCCL(prefixed, rank, rendezvous.size, options)
    # NCCL connects at the first collective: make it here, so that a missing member is reported now.
    group.broadcast(torch.zeros(1, dtype=torch.uint8, device=device), 0).wait(timeout)
    return group
