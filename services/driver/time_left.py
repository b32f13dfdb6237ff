"""How long a run still takes, from its newest steps and its evaluations."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

RECENT_STEPS = 20


class TimeLeft:
    """An estimate that follows the newest steps."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT_STEPS)
        self._last: tuple[int, int, float] | None = None
        self._evaluation = 0.0

    def step(self, record: Mapping[str, Any]) -> None:
        """Take the record of a learner step."""
        lineage, step, at = record["lineage"], record["step"], record["at"]
        if self._last is not None and self._last[:2] == (lineage, step - 1):
            # From the end of one step to that of the next: checkpoints and evaluations between them count.
            self._seconds.append(at - self._last[2])
        self._last = (lineage, step, at)

    def evaluated(self, seconds: float) -> None:
        """Take the duration of an evaluation like the one at the end."""
        self._evaluation = seconds

    def seconds(self, done: int, of: int) -> float | None:
        """Seconds from the end of step `done` to the end of the last evaluation; None before the second step.

        A pause, or one slow step, does not count: the median of the newest steps does.
        """
        if not self._seconds:
            return None
        return (of - done) * statistics.median(self._seconds) + self._evaluation


def clock(seconds: float) -> str:
    """A duration as `4:12`, `1:04:12` or `2 d 1:04:12`."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
