"""The part of weight transfer that runs inside vLLM's worker process (`worker_extension_cls`).

Importing this module there also ties the engine's life to its generator's: when that is gone, however it died, the
engine's core and workers are ended, so that no orphan holds memory or a GPU.
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

from services.inference.request_lengths import Requests, watch
from services.inference.weight_staging import Swap, stage
from services.weights.buckets import from_text
from services.weights.process_group import Rendezvous
from services.weights.receiver import WeightReceiver

if TYPE_CHECKING:
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

PARENT_POLL_SECONDS = 1.0

if hasattr(torch.cpu, "_init_amx"):
    # bf16 attention on AMX processors dies with SIGILL unless the process asked for the tiles first.
    torch.cpu._init_amx()


def _exit_with_generator(line: list[int], engine: psutil.Process) -> None:
    """Poll the process ids above this one; once one of them has gone, end the engine's core and this process.

    line: parent, then grandparent where the parent is the engine's core and not the generator. A process whose
    parent dies gets another one at once.
    """
    while [os.getppid(), *([engine.ppid()] if len(line) > 1 else [])] == line:
        time.sleep(PARENT_POLL_SECONDS)
    if len(line) > 1:
        with contextlib.suppress(psutil.NoSuchProcess):
            engine.kill()
    os._exit(1)


def _watch() -> None:
    parent = psutil.Process(os.getppid())
    # vLLM runs the worker inside the engine's core process, or as a child of it.
    in_core = multiprocessing.current_process().name.startswith("EngineCore")
    line = [parent.pid] if in_core else [parent.pid, parent.ppid()]
    threading.Thread(
        target=_exit_with_generator, args=(line, parent), name="exit-with-generator", daemon=True
    ).start()


_watch()


class WeightExtension:
    """Mixed into vLLM's worker; methods are called by name through `collective_rpc`."""

    model_runner: GPUModelRunner
    rank: int
    device: torch.device
    _requests: Requests
    _receiver: WeightReceiver
    _staging: ThreadPoolExecutor
    _staged: Future[Swap]

    def prepare(self) -> None:
        """Keep account of requests, and take weights, from now on; to be called once, before the first request."""
        self._requests = watch(self.model_runner)
        self._receiver = WeightReceiver(self.device)
        self._staging = ThreadPoolExecutor(1, thread_name_prefix="staging")

    def stage_version(self, weights: bytes | str) -> None:
        """Begin to prepare `weights`: safetensors with Hugging Face names, or a file that holds them.

        The engine goes on with those that it has until `swap_weights`. A file must be there until then.
        """
        self._staged = self._staging.submit(self._stage, weights)

    def stage_received(self) -> None:
        """As `stage_version`, with the weights that were received."""
        self._staged = self._staging.submit(stage, self.model_runner, self._receiver.take())

    def staged(self) -> bool:
        """Whether `swap_weights` can be called. Raises what went wrong."""
        if not self._staged.done():
            return False
        self._staged.result()
        return True

    def swap_weights(self) -> dict[str, int]:
        """Sample with the staged weights. The engine must be paused, and `prepare` must have been called.

        Returns, for each request the worker holds or has ended since the last swap, the number of tokens already
        sampled, by the version before.
        """
        sampled = self._requests.sampled()
        self._staged.result()()
        return sampled

    def join_weights(self, rendezvous: str, first_rank: int) -> None:
        """Become a member of a group that weights are broadcast in. first_rank: of this engine's workers."""
        self._receiver.join(Rendezvous.from_text(rendezvous), first_rank + self.rank)

    def receive_weights(self, buckets: str) -> None:
        """Begin to receive a version, while the engine goes on; `join_weights` must have been called."""
        self._receiver.receive(from_text(buckets))

    def received_weights(self) -> str | None:
        """None while they arrive, then what went wrong; empty when nothing did."""
        return self._receiver.state()

    def _stage(self, weights: bytes | str) -> Swap:
        load = safetensors.torch.load_file if isinstance(weights, str) else safetensors.torch.load
        return stage(self.model_runner, load(weights))  # pyright: ignore[reportArgumentType]
