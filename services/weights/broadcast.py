"""The sending end of a weight broadcast, on the learner's rank 0: one policy version to all generators at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import ray
import torch
from ray.actor import ActorHandle
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from services.weights.buckets import Bucket, as_text, pack, plan
from services.weights.probe import Probe
from services.weights.process_group import Backend, Rendezvous, TransferError, WeightGroup, open_rendezvous
from trainer.config import RunConfig
from trainer.rollouts.trajectory import PolicyVersion


class WeightBroadcast:
    """Broadcasts weights on its own thread, so that the learner does not wait.

    device: where buckets are packed. bucket_bytes: largest bucket. ranks_each: ranks of one generator in the group, one
    for each GPU of its engine. seconds: timeout of the rendezvous and of each broadcast.
    """

    def __init__(self, device: torch.device, *, bucket_bytes: int, ranks_each: int, seconds: float) -> None:
        self._device = device
        self._backend: Backend = "nccl" if device.type == "cuda" else "gloo"
        self._bucket_bytes, self._ranks_each, self._seconds = bucket_bytes, ranks_each, seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._members: tuple[str, ...] = ()
        self._group: WeightGroup | None = None
        self._broken = False
        self._sending: Future[None] | None = None

    def send(
        self,
        generators: Mapping[str, ActorHandle],
        version: PolicyVersion,
        weights: dict[str, Tensor],
        probe: Probe,
    ) -> dict[str, ray.ObjectRef]:
        """Begin to send `weights`, by Hugging Face name, to `generators`.

        Returns a reference for each generator; it resolves once that generator runs the weights. Raises the error of
        the previous broadcast, unless that lost a member.
        """
        if self._sending is not None and self._sending.done():
            self._sending.result()
        members = tuple(handle._actor_id.hex() for handle in generators.values())
        if self._broken or members != self._members:
            self._form_group(generators)
            self._members, self._broken = members, False
        buckets = plan(weights, self._bucket_bytes)
        text = as_text(buckets)
        answers: dict[str, ray.ObjectRef] = {}
        for name, handle in generators.items():
            answers[name] = handle.receive.remote(version, text, probe)
        self._sending = self._thread.submit(self._broadcast, buckets, weights)
        return answers

    def leave(self) -> None:
        """Leave the group, because a member failed; the next version forms a new one."""
        self._broken = True

    def close(self) -> None:
        """Let the thread end after the broadcast under way."""
        self._thread.shutdown(wait=False)

    def _form_group(self, generators: Mapping[str, ActorHandle]) -> None:
        size = 1 + self._ranks_each * len(generators)
        store, rendezvous = open_rendezvous(
            ray.util.get_node_ip_address(), size, self._backend, self._seconds
        )
        for index, handle in enumerate(generators.values()):
            handle.join_weights.remote(rendezvous, 1 + self._ranks_each * index)
        self._thread.submit(self._join, store, rendezvous)

    def _join(self, store: TCPStore, rendezvous: Rendezvous) -> None:
        self._group = None
        try:
            with _on(self._device):
                self._group = WeightGroup(rendezvous, 0, self._device, store)
        except TransferError:
            # Those generators that did connect report it: their `receive` fails.
            self._broken = True

    def _broadcast(self, buckets: list[Bucket], weights: Mapping[str, Tensor]) -> None:
        if self._group is None:
            return
        try:
            with _on(self._device):
                for bucket in buckets:
                    self._group.broadcast(pack(bucket, weights, self._device))
        except TransferError:
            self._group, self._broken = None, True


def broadcast_of(config: RunConfig) -> WeightBroadcast | None:
    """The broadcast on this learner rank's device, or None when `weights.transport` is the object store."""
    if config.weights.transport == "object_store":
        return None
    on_gpu = config.learner.gpus_per_worker > 0
    return WeightBroadcast(
        torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu"),
        bucket_bytes=config.weights.bucket_mib << 20,
        ranks_each=config.generators.tensor_parallel,
        # Half, so that healthy generators report the timeout before their own load counts as late.
        seconds=config.weights.timeout_seconds / 2,
    )


def _on(device: torch.device) -> AbstractContextManager[object]:
    """A context with a new stream on a GPU, an empty one on a CPU."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
