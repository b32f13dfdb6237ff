"""In-memory snapshots of a DeepSpeed engine, to be written as a checkpoint while training continues.

DeepSpeed decides which files each rank saves; `SnapshotEngine` keeps their content instead of writing it. DeepSpeed's
own decoupled engine is not used: it does not copy, so on a CPU its writer would see the next update, and it silently
drops data after its process has died.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import CheckpointCommitInfo, TorchCheckpointEngine
from torch import Tensor


class Snapshot:
    """One rank's files of a checkpoint, not yet written."""

    def __init__(self, files: list[tuple[Path, Any]]) -> None:
        self._files = files

    def write(self) -> None:
        """Write and fsync every file, freeing the memory of each. Raises OSError, or torch's RuntimeError."""
        while self._files:
            path, state = self._files.pop(0)
            with path.open("wb") as file:
                torch.save(state, file)
                del state
                file.flush()
                os.fsync(file.fileno())


class SnapshotEngine(TorchCheckpointEngine):
    """A DeepSpeed checkpoint engine whose `save` keeps the content in memory; `take` returns it as a snapshot.

    copy: copy the tensors; otherwise the snapshot must be written before the next update.
    """

    def __init__(self, *, copy: bool) -> None:
        super().__init__()
        self._copy = copy
        self._files: list[tuple[Path, Any]] = []

    def create(self, info: CheckpointCommitInfo) -> None:
        """Begin a checkpoint."""
        self._files = []

    def save(self, state_dict: Any, path: str) -> None:
        """Keep the content of the file `path`."""
        self._files.append((Path(path), host_copy(state_dict) if self._copy else state_dict))

    def take(self) -> Snapshot:
        """The snapshot of all files since `create`."""
        files, self._files = self._files, []
        return Snapshot(files)


def host_copy(state: Any) -> Any:
    """A deep copy in host memory, of containers, tensors and other objects.

    Tensors that share a storage share one in the copy too, as they do in a file.
    """
    return _Copier().copy(state)


class _Copier:
    def __init__(self) -> None:
        self._storages: dict[tuple[torch.device, int], torch.UntypedStorage] = {}
        self._memo: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if type(value) in (list, tuple):
            return type(value)(self.copy(item) for item in value)
        if isinstance(value, dict):
            # Keeps type and attributes: a `state_dict` has its metadata as an attribute.
            copied = copy.copy(value)
            for key, item in value.items():
                copied[key] = self.copy(item)
            return copied
        return copy.deepcopy(value, self._memo)

    def _tensor(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            return copy.deepcopy(tensor.detach().cpu(), self._memo)
        source = tensor.untyped_storage()
        key = (source.device, source.data_ptr())
        if key not in self._storages or source.nbytes() == 0:
            target = torch.UntypedStorage(source.nbytes(), device="cpu")
            target.copy_(source)
            self._storages[key] = target
        empty = torch.empty(0, dtype=tensor.dtype)
        return empty.set_(self._storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())
