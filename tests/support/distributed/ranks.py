"""Learner ranks as threads of one process, for tests of collective decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor


class Ranks:
    """Replaces `torch.distributed` in `trainer.collectives` while `run` is active."""

    ReduceOp = torch.distributed.ReduceOp

    def __init__(self, size: int) -> None:
        self._size = size
        self._barrier = threading.Barrier(size, timeout=20)
        self._mine = threading.local()
        self._slots: list[Any] = [None] * size

    def run(self, patch: pytest.MonkeyPatch, work: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call each function on its own rank; returns the results in rank order."""

        def on_rank(number: int) -> Any:
            self._mine.rank = number
            try:
                return work[number]()
            except BaseException:
                self._barrier.abort()
                raise

        with patch.context() as context, ThreadPoolExecutor(self._size) as pool:
            context.setattr("trainer.collectives.dist", self)
            return list(pool.map(on_rank, range(self._size)))

    def is_initialized(self) -> bool:
        return True

    def get_rank(self) -> int:
        return self._mine.rank

    def get_world_size(self) -> int:
        return self._size

    def all_gather(self, parts: list[Tensor], values: Tensor) -> None:
        for part, other in zip(parts, self._exchange(values), strict=True):
            part.copy_(other)

    def all_reduce(self, values: Tensor, op: Any = torch.distributed.ReduceOp.SUM) -> None:
        stacked = torch.stack(self._exchange(values))
        values.copy_(stacked.amax(0) if op == torch.distributed.ReduceOp.MAX else stacked.sum(0))

    def _exchange(self, values: Tensor) -> list[Tensor]:
        self._slots[self._mine.rank] = values.clone()
        self._barrier.wait()
        everything = list(self._slots)
        self._barrier.wait()
        return everything
