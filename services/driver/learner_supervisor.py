"""Restarts the learner: after an incarnation that failed, the next one begins at the newest checkpoint.

`learner.max_restarts` counts restarts in a row without a step beyond the furthest one so far. A learner that keeps
failing at the same step therefore ends the run; one that fails once a day does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from services.driver.learner_failure import LearnerFailure
from services.driver.learner_job import LearnerJob
from services.learner.spec import LearnerSpec
from trainer.errors import ScopeError


class Job(Protocol):
    """One incarnation of the learner. `LearnerJob` implements it."""

    def start(self) -> None:
        """Start it."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True when it has ended."""
        ...

    @property
    def failure(self) -> LearnerFailure | None:
        """Why it ended; None while it runs and when it has finished."""
        ...


class LearnerSupervisor:
    """Owns the learner's incarnations, one at a time."""

    def __init__(self, spec: LearnerSpec, launch: Callable[[LearnerSpec], Job] = LearnerJob) -> None:
        self._spec, self._launch = spec, launch
        self._job = launch(spec)
        self._furthest = 0
        self._in_a_row = 0

    def start(self, steps_done: int) -> None:
        """Start the first incarnation. steps_done: learner steps that the run has done."""
        self._furthest = steps_done
        self._job.start()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True when the learner has finished, False while it runs or waits for `restart`.

        Raises ScopeError when it failed and a restart would fail in the same way.
        """
        if not self._job.wait(seconds):
            return False
        failure = self._job.failure
        if failure is None:
            return True
        if failure.permanent:
            raise ScopeError(f"the learner ended: {failure.cause}")
        time.sleep(seconds)
        return False

    def restart(self, steps_done: int) -> str | None:
        """Start the next incarnation if the last one failed; returns a message about it. Call it while Redis answers.

        steps_done: learner steps recorded so far. Raises ScopeError when `learner.max_restarts` are used up.
        """
        failure = self._job.failure
        if failure is None:
            return None
        if steps_done > self._furthest:
            self._furthest, self._in_a_row = steps_done, 0
        allowed = self._spec.config.learner.max_restarts
        if self._in_a_row >= allowed:
            raise ScopeError(
                f"the learner ended after learner.max_restarts={allowed} restarts without a step beyond "
                f"{self._furthest}: {failure.cause}"
            )
        self._in_a_row += 1
        self._spec = replace(self._spec, restarts=self._spec.restarts + 1)
        self._job = self._launch(self._spec)
        self._job.start()
        return (
            f"the learner ended and is restarted ({self._in_a_row} of {allowed}) from step "
            f"{self._spec.checkpoints.newest_step()}: {failure.cause}"
        )
