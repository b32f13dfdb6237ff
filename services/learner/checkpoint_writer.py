"""Writes checkpoints behind the learner's back: each rank its part, on a thread of its own; then rank 0 commits.

At most one is in flight. Ranks tell each other how writing went over a process group of their own, because the
learner's is busy. What fails here is raised on the learner's thread, the next time that it looks.
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
"""Gives every rank what each rank gave, in order of ranks."""


def exchange_over_gloo(timeout_seconds: float) -> Exchange:
    """Collective: makes a process group of all ranks on the host network.

    timeout_seconds: how long a rank waits for the others; they write their parts meanwhile.
    """
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def exchange(mine: Exception | None) -> Sequence[Exception | None]:
        everyone: list[Exception | None] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine, group=group)
        return everyone

    return exchange


class CheckpointWriter:
    """One rank's writer. Every method is for the learner's thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, folder: Path, write: Callable[[], None], commit: Callable[[], None] | None) -> None:
        """Start on a checkpoint, when the one before is done.

        write: this rank's part of the files in `folder`; commit: on rank 0, what follows when every rank has written.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(folder, write, commit), name="checkpoint-writer", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise what the newest checkpoint failed with: ScopeError for a full disk; nothing while it is in flight."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Return once none is in flight. Raises as `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def linger(self, seconds: float) -> None:
        """Give the one in flight that long to end, where the learner itself has failed."""
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
    """The error itself where other ranks can read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
