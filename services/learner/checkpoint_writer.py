"""Writes checkpoints in the background: each rank writes its part on a thread of its own, then rank 0 commits.

At most one checkpoint is in flight. Ranks exchange the outcomes over a separate process group, because the learner's
is busy. A failure is raised on the learner's thread, at its next call.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from trainer.checkpoint.store import disk_full

Exchange = Callable[[Exception | None], Sequence[Exception | None]]
"""All-gather of one rank's failure, or None; the result is in the order of ranks."""


def exchange_over_gloo(timeout_seconds: float) -> Exchange:
    """An exchange over a new gloo process group of all ranks. Collective.

    timeout_seconds: how long a rank waits for the others, which are still writing their parts.
    """
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def exchange(mine: Exception | None) -> Sequence[Exception | None]:
        everyone: list[Exception | None] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine, group=group)
        return everyone

    return exchange


class CheckpointWriter:
    """One rank's writer. Only the learner's thread calls its methods."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, folder: Path, write: Callable[[], None], commit: Callable[[], None] | None) -> None:
        """Start writing a checkpoint, after waiting for the one before. Raises as `check`.

        write: writes this rank's part to `folder`; commit: on rank 0, called when every rank has written its part.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(folder, write, commit), name="checkpoint-writer", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise what the newest finished checkpoint failed with, a ScopeError for a full disk."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait until no checkpoint is in flight. Raises as `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def linger(self, seconds: float) -> None:
        """Wait up to `seconds` for the checkpoint in flight, after the learner itself has failed."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, folder: Path, write: Callable[[], None], commit: Callable[[], None] | None) -> None:
        failed: BaseException | None = None
        try:
            mine = _failure_of(write, folder)
            failures = self._exchange(None if mine is None else _portable(mine))
            failed = mine or next((failure for failure in failures if failure is not None), None)
            if failed is None and commit is not None:
                failed = _failure_of(commit, folder)
        except BaseException as error:
            failed = error
        self._failure = failed


def _failure_of(work: Callable[[], None], folder: Path) -> Exception | None:
    try:
        work()
    except (OSError, RuntimeError) as error:
        return disk_full(folder, error) or error
    except Exception as error:
        return error
    return None


def _portable(error: Exception) -> Exception:
    """The error itself, or a RuntimeError with its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
