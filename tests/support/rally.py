"""A task with an environment for tests: Countdown in which each answer but the third is sent back with one token."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.tasks import Problem, Verdict
from trainer.tasks.countdown.task import Countdown

TURNS, REPLY = 3, "="


class Rally(Countdown):
    """Rewards three different answers."""

    name = "rally"

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        return REPLY if len(turns) < TURNS else None

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        return Verdict(
            float(len(set(turns)) == TURNS), {}, "different" if len(set(turns)) == TURNS else "same"
        )
