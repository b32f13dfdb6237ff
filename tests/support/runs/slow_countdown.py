"""Countdown with a delayed verdict, so that a run that tests only watch leaves CPU time for other tests."""

from __future__ import annotations

import time

from trainer.tasks import Problem, Verdict
from trainer.tasks.countdown.task import Countdown

SECONDS_A_VERDICT = 0.03


class SlowCountdown(Countdown):
    """Countdown with the same problems and verdicts, but slower."""

    def verify(self, problem: Problem, response_text: str) -> Verdict:
        """Wait, then verify."""
        time.sleep(SECONDS_A_VERDICT)
        return super().verify(problem, response_text)
