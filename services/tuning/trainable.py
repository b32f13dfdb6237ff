"""A trial as Ray Tune runs it: a process of Ray that starts the trial's units and reports its metric."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray.tune import Trainable

from services.compare.pool import Job
from services.host.children import ChildProcess
from services.tuning.plan import Search
from services.tuning.record import FAILURE_FILE
from services.tuning.searcher import METRIC, STEP
from services.tuning.trial import TrialRun, start_job
from trainer.errors import ScopeError
from trainer.files import write_atomically

_CHANGED = {"CUDA_VISIBLE_DEVICES", "TMPDIR"}


def environment_of_units() -> dict[str, str]:
    """The variables of this process that Ray changes in its workers, and that the units of a trial must not inherit."""
    return {name: value for name, value in os.environ.items() if _is_changed(name)}


class TrialTrainable(Trainable):
    """Each step of it waits for the next report of the trial."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, config: Mapping[str, float], search: Search, environment: Mapping[str, str], directory: str
    ) -> None:
        """environment: of `environment_of_units`. directory: where the search was started."""
        os.chdir(directory)
        values = search.values(config)
        self._place = search.directory(values)
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place / FAILURE_FILE).unlink(missing_ok=True)
        # Rounded values can be proposed twice: the later trial waits, and then finds the result of the earlier one.
        self._lock = (self._place / ".lock").open("w")
        self._locked = False

        def start(job: Job) -> ChildProcess:
            with _variables(environment):
                return start_job(job)

        self._run = TrialRun(search.trial(values), search.k, start)
        self._reports = self._run.reports()
        self._steps = search.config.steps

    def step(self) -> dict[str, Any]:
        """Wait for the next report."""
        if not self._locked:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._locked = True
        try:
            step, value = next(self._reports)
        except ScopeError as error:
            # Ray Tune passes on no more than the text of a stack trace.
            write_atomically(self._place / FAILURE_FILE, str(error).encode())
            raise
        return {STEP: step, METRIC: value, "done": step == self._steps}

    def cleanup(self) -> None:
        """End the trial's process, if any."""
        self._run.stop()


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Let the processes started inside the context have `wanted` of the variables that Ray changes."""
    before = dict(os.environ)
    for name in filter(_is_changed, before):
        del os.environ[name]
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _is_changed(name: str) -> bool:
    return name.startswith("RAY_") or name in _CHANGED
