"""Experiment loggers (TensorBoard, Weights & Biases), named by `loggers` in the configuration.

Each has its own thread on rank 0 with a bounded queue, so a step never waits for one. A logger that falls behind misses
records and one that fails is dropped; both are reported in the step record's alarms, and the run continues.
"""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from services.records.step_record import StepRecord, flatten
from trainer.config import LoggerName, RunConfig
from trainer.errors import ScopeError

QUEUE_RECORDS = 256
CLOSE_SECONDS = 20.0
"""longest wait for a logger at the end of a learner"""


class Logger(Protocol):
    """One destination. Its constructor and methods run on the logger's own thread; any of them may raise."""

    def log(self, step: int, at: float, values: dict[str, float]) -> None:
        """Log a step's numbers, named as by `step_record.flatten`. at: seconds since the epoch."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


@dataclass(frozen=True)
class LoggedRun:
    """The facts about a run that its loggers record."""

    run_id: str
    run_dir: Path
    config: RunConfig
    first_step: int
    """the learner step that this incarnation begins with; it repeats those from there on that were logged before"""


class TensorBoardLogger:
    """Scalars, named as by `step_record.flatten`, in the run directory's `tensorboard/`.

    A step that is done again replaces its first numbers.
    """

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = str(run.run_dir / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=run.first_step, flush_secs=10)

    def log(self, step: int, at: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=at)

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """Weights & Biases. A resumed run continues its W&B run; a step that is done again keeps its first numbers.

    Credentials come from W&B's own settings (`wandb login`), not from the configuration. With `wandb.mode=offline` the
    data stays in the run directory's `wandb/`, for `wandb sync`.
    """

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        settings = run.config.wandb
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,
            id=run.run_id,
            name=run.run_id,
            resume="allow",
            dir=str(run.run_dir),
            config=run.config.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )

    def log(self, step: int, at: float, values: dict[str, float]) -> None:
        self._run.log(values | {"at": at}, step=step)

    def close(self) -> None:
        self._run.finish()


_LOGGERS: dict[LoggerName, Callable[[LoggedRun], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}


def require_loggers(names: tuple[LoggerName, ...]) -> None:
    """Raise ScopeError for a logger whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ScopeError(
                f"loggers={list(names)} needs the package {name!r}, which is not installed: "
                "pip install 'scope-rl-service[loggers]'."
            )


class LoggerThread:
    """One logger on its own thread."""

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self._name, self._make = name, make
        self._records: queue.Queue[StepRecord | None] = queue.Queue(QUEUE_RECORDS)
        self._missed = 0
        self._failure: Exception | None = None
        self._reported = False
        self._thread = threading.Thread(target=self._run, name=f"logger-{name}", daemon=True)
        self._thread.start()

    def write(self, record: StepRecord) -> None:
        """Queue a record; never blocks."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._missed += 1

    def report(self) -> str | None:
        """Failures and missed records since the last call, for the step record's alarms."""
        if self._failure is not None and not self._reported:
            self._reported = True
            return (
                f"logger {self._name} failed and is dropped: {type(self._failure).__name__}: {self._failure}"
            )
        if self._missed and self._failure is None:
            missed, self._missed = self._missed, 0
            return f"logger {self._name} fell behind and missed {missed} step record(s)"
        return None

    def close(self) -> None:
        """Log the queued records, for at most `CLOSE_SECONDS`."""
        if self._failure is None:
            try:
                self._records.put(None, timeout=CLOSE_SECONDS)
            except queue.Full:
                return
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            logger = self._make()
            while (record := self._records.get()) is not None:
                logger.log(record.step, record.at, flatten(msgspec.structs.asdict(record)))
            logger.close()
        except Exception as error:
            self._failure = error


class Loggers:
    """The configured loggers, as one sink of step records."""

    def __init__(self, run: LoggedRun) -> None:
        self._threads = [
            LoggerThread(name, lambda make=_LOGGERS[name]: make(run)) for name in run.config.loggers
        ]

    def write(self, record: StepRecord) -> None:
        """Write one record."""
        for thread in self._threads:
            thread.write(record)

    def reports(self) -> list[str]:
        """Failures and missed records since the last call."""
        return [report for thread in self._threads if (report := thread.report()) is not None]

    def close(self) -> None:
        """Flush."""
        for thread in self._threads:
            thread.close()
