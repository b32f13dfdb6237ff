"""The receiving end of a weight broadcast, in an engine's worker: versions arrive while the engine goes on sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from services.weights.buckets import Bucket, unpack
from services.weights.process_group import Meeting, TransferError, WeightGroup


class WeightInbox:
    """Receives on a thread and, on a GPU, a stream of its own. What has arrived lies in host memory.

    A version that does not arrive whole leaves nothing behind, and the engine as it was.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._membership: Future[WeightGroup] | None = None
        self._arriving: Future[dict[str, Tensor]] | None = None

    def join(self, meeting: Meeting, rank: int) -> None:
        """Become a member of a group in place of the one before; `receive` tells when that did not work."""
        self._membership = self._thread.submit(self._join, meeting, rank)

    def receive(self, buckets: list[Bucket]) -> None:
        """Begin to receive."""
        self._arriving = self._thread.submit(self._receive, self._membership, buckets)

    def state(self) -> str | None:
        """None while weights arrive, then what went wrong; empty when nothing did."""
        if self._arriving is None or not self._arriving.done():
            return None
        error = self._arriving.exception()
        if error is None:
            return ""
        if isinstance(error, TransferError):
            return str(error)
        raise error

    def take(self) -> dict[str, Tensor]:
        """What has arrived, by Hugging Face name; it is kept here no longer."""
        if self._arriving is None:
            raise TransferError("no weights were received")
        arrived, self._arriving = self._arriving.result(), None
        return arrived

    def _join(self, meeting: Meeting, rank: int) -> WeightGroup:
        with self._own_stream():
            return WeightGroup(meeting, rank, self._device)

    def _receive(self, membership: Future[WeightGroup] | None, buckets: list[Bucket]) -> dict[str, Tensor]:
        if membership is None:
            raise TransferError("this engine is in no group that weights are broadcast in")
        group = membership.result()
        arrived: dict[str, Tensor] = {}
        with self._own_stream():
            for bucket in buckets:
                buffer = torch.empty(bucket.size, dtype=torch.uint8, device=self._device)
                group.broadcast(buffer)
                arrived |= unpack(bucket, buffer.cpu())
        return arrived

    @contextlib.contextmanager
    def _own_stream(self) -> Iterator[None]:
        if self._device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.Stream(self._device)):
            yield
