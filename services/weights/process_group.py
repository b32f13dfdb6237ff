"""A group of processes that only broadcasts weights, from rank 0: NCCL between GPUs, gloo between CPUs.

It has nothing to do with the process groups of the learner and of tensor parallel engines, and outlives none of its
members: it is made anew whenever they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

Backend = Literal["gloo", "nccl"]


class TransferError(RuntimeError):
    """Weights did not arrive; who was to receive them still runs what it ran."""


@dataclass(frozen=True)
class Meeting:
    """Where and how the members of a group find each other."""

    host: str
    port: int
    size: int
    backend: Backend
    seconds: float
    """longest wait for the others, when meeting and in each broadcast"""

    def as_text(self) -> str:
        """For the way to an engine's workers."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_text(text: str) -> Meeting:
        """What `as_text` was made from."""
        return msgspec.json.decode(text, type=Meeting)


def open_meeting(host: str, size: int, backend: Backend, seconds: float) -> tuple[TCPStore, Meeting]:
    """By rank 0, at an address of its own that the others can reach, on a free port; does not wait for them."""
    store = TCPStore(
        host, 0, size, is_master=True, timeout=timedelta(seconds=seconds), wait_for_workers=False
    )
    return store, Meeting(host, store.port, size, backend, seconds)


class WeightGroup:
    """One member. Raises TransferError when not all have come to the meeting in time.

    store: what `open_meeting` returned, by rank 0. device: where buffers lie.
    """

    def __init__(
        self, meeting: Meeting, rank: int, device: torch.device, store: TCPStore | None = None
    ) -> None:
        self._patience = timedelta(seconds=meeting.seconds)
        try:
            self._store = store or TCPStore(
                meeting.host, meeting.port, meeting.size, is_master=False, timeout=self._patience
            )
            self._group = _process_group(self._store, meeting, rank, device, self._patience)
        except RuntimeError as error:
            raise TransferError(
                f"rank {rank} of {meeting.size} did not meet the others at {meeting.host}:{meeting.port}: {error}"
            ) from error

    def broadcast(self, buffer: Tensor) -> None:
        """Rank 0's `buffer` into everyone's; returns when it is there. Raises TransferError when a member is lost."""
        try:
            self._group.broadcast(buffer, 0).wait(self._patience)
            if buffer.is_cuda:
                torch.cuda.current_stream(buffer.device).synchronize()
        except RuntimeError as error:
            raise TransferError(
                f"a broadcast of {buffer.nbytes:,} bytes of weights failed: {error}"
            ) from error


def _process_group(
    store: TCPStore, meeting: Meeting, rank: int, device: torch.device, patience: timedelta
) -> Any:
    mine = PrefixStore("weights", store)
    if meeting.backend == "gloo":
        from torch.distributed import ProcessGroupGloo

        return ProcessGroupGloo(mine, rank, meeting.size, patience)
    from torch.distributed import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = patience
    group: Any = ProcessGroupNCCL(mine, rank, meeting.size, options)
    # NCCL connects at the first collective call; with the wait here, who is missing is missed now.
    group.broadcast(torch.zeros(1, dtype=torch.uint8, device=device), 0).wait(patience)
    return group
