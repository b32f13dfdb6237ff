"""The part of weight loading that runs in vLLM's worker process (`worker_extension_cls`).

Importing this module also starts a watch on the generator: when its process ends, however it ended, the engine core and
the workers exit, so that no orphaned process holds memory or a GPU.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import safetensors.torch
import torch

from services.inference.request_lengths import RequestLengths, track_requests
from services.inference.weight_staging import Swap, stage
from services.weights.buckets import from_text
from services.weights.process_group import Rendezvous
from services.weights.receiver import WeightReceiver

if TYPE_CHECKING:
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

PARENT_POLL_SECONDS = 1.0

if hasattr(torch.cpu, "_init_amx"):
    # On AMX processors, bf16 attention ends with SIGILL unless the process has requested the tiles.
    torch.cpu._init_amx()


def _exit_with_generator(ancestors: list[int], parent: psutil.Process) -> None:
    """Poll this process's ancestors; when one of them has ended, kill the engine core and exit.

    ancestors: process ids of the parent and, if the parent is the engine core, of the generator above it. A process
    whose parent ends has another parent at once.
    """
    while [os.getppid(), *([parent.ppid()] if len(ancestors) > 1 else [])] == ancestors:
        time.sleep(PARENT_POLL_SECONDS)
    if len(ancestors) > 1:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent.kill()
    os._exit(1)


def _watch_generator() -> None:
    parent = psutil.Process(os.getppid())
    # vLLM runs the worker in the engine core's process, or in a child of it.
    in_core = multiprocessing.current_process().name.startswith("EngineCore")
    ancestors = [parent.pid] if in_core else [parent.pid, parent.ppid()]
    threading.Thread(
        target=_exit_with_generator, args=(ancestors, parent), name="exit-with-generator", daemon=True
    ).start()


_watch_generator()


class WeightExtension:
    """Mixed into vLLM's worker class. The engine calls its methods by name through `collective_rpc`."""

    model_runner: GPUModelRunner
    rank: int
    device: torch.device
    _requests: RequestLengths
    _receiver: WeightReceiver
    _staging: ThreadPoolExecutor
    _staged: Future[Swap]

    def prepare(self) -> None:
        """Track requests and accept weights from now on. Called once, before the first request."""
        self._requests = track_requests(self.model_runner)
        self._receiver = WeightReceiver(self.device)
        self._staging = ThreadPoolExecutor(1, thread_name_prefix="staging")

    def stage_version(self, weights: bytes | str) -> None:
        """Begin to prepare weights for `swap_weights`; the engine samples with the current ones until then.

        weights: safetensors with Hugging Face names, or the path of such a file, which must exist until the swap.
        """
        self._staged = self._staging.submit(self._stage, weights)

    def stage_received(self) -> None:
        """Begin to prepare the received weights, as `stage_version` does with its argument."""
        self._staged = self._staging.submit(stage, self.model_runner, self._receiver.take())

    def staged(self) -> bool:
        """Whether `swap_weights` can be called. Raises what the preparation failed with."""
        if not self._staged.done():
            return False
        self._staged.result()
        return True

    def swap_weights(self) -> dict[str, int]:
        """Sample with the staged weights from now on. The engine must be paused.

        Returns the tokens sampled so far for each request that the worker has, or that has ended since the last swap.
        """
        sampled = self._requests.sampled()
        self._staged.result()()
        return sampled

    def join_weights(self, rendezvous: str, first_rank: int) -> None:
        """Join a broadcast group. rendezvous: `Rendezvous.as_text`. first_rank: rank of this engine's first worker."""
        self._receiver.join(Rendezvous.from_text(rendezvous), first_rank + self.rank)

    def receive_weights(self, buckets: str) -> None:
        """Begin to receive weights while the engine samples. `join_weights` must have been called."""
        self._receiver.receive(from_text(buckets))

    def received_weights(self) -> str | None:
        """None while weights arrive; then "" when they are complete, else the reason why they did not arrive."""
        return self._receiver.state()

    def _stage(self, weights: bytes | str) -> Swap:
        load = safetensors.torch.load_file if isinstance(weights, str) else safetensors.torch.load
        return stage(self.model_runner, load(weights))  # pyright: ignore[reportArgumentType]
