"""Countdown whose verdicts take a while, so that a run that is only watched leaves the cores to other tests."""

from __future__ import annotations

import time

from trainer.tasks import Problem, Verdict
from trainer.tasks.countdown.task import Countdown

SECONDS_A_VERDICT = 0.03


class SlowCountdown(Countdown):
    """The same problems and verdicts."""

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Also waits."""
        time.sleep(SECONDS_A_VERDICT)
        return super().verify(problem, response_text)
