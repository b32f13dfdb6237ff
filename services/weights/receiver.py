"""The receiving end of a weight broadcast, in an engine's worker: weights arrive while the engine samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from services.weights.buckets import Bucket, unpack
from services.weights.process_group import Rendezvous, TransferError, WeightGroup


class WeightReceiver:
    """Receives weights into host memory on its own thread and, on a GPU, its own stream.

    A version that does not arrive completely is discarded, and the engine keeps the one it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._membership: Future[WeightGroup] | None = None
        self._arriving: Future[dict[str, Tensor]] | None = None

    def join(self, rendezvous: Rendezvous, rank: int) -> None:
        """Begin to join a group, in place of the previous one. A failure is reported by the next `receive`."""
        self._membership = self._thread.submit(self._join, rendezvous, rank)

    def receive(self, buckets: list[Bucket]) -> None:
        """Begin to receive the broadcast of `buckets`."""
        self._arriving = self._thread.submit(self._receive, self._membership, buckets)

    def state(self) -> str | None:
        """None while weights arrive; then "" when they are complete, else the reason why they did not arrive."""
        if self._arriving is None or not self._arriving.done():
            return None
        error = self._arriving.exception()
        if error is None:
            return ""
        if isinstance(error, TransferError):
            return str(error)
        raise error

    def take(self) -> dict[str, Tensor]:
        """Return the received weights by Hugging Face name. Raises TransferError when there are none."""
        if self._arriving is None:
            raise TransferError("no weights were received")
        arrived, self._arriving = self._arriving.result(), None
        return arrived

    def _join(self, rendezvous: Rendezvous, rank: int) -> WeightGroup:
        with self._own_stream():
            return WeightGroup(rendezvous, rank, self._device)

    def _receive(self, membership: Future[WeightGroup] | None, buckets: list[Bucket]) -> dict[str, Tensor]:
        if membership is None:
            raise TransferError("this engine has joined no broadcast group")
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
