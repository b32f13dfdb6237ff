"""A multi-turn test task: Countdown whose environment replies to every answer but the third with one token."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.tasks import Problem, Verdict
from trainer.tasks.countdown.task import Countdown

TURNS, REPLY = 3, "="


class Rally(Countdown):
    """The reward is 1 if all three answers differ."""

    name = "rally"

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        return REPLY if len(turns) < TURNS else None

    def verify_turns(self, problem: Problem, turns: Sequence[str]) -> Verdict:
        return Verdict(
            float(len(set(turns)) == TURNS), {}, "different" if len(set(turns)) == TURNS else "same"
        )
