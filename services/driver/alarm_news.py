"""Alarms of successive step records, told once when they begin and once when they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.records.alarms import limit_text

CLEAR_STEPS = 5
"""An alarm has ended when this many steps in a row are without it, so that one that comes and goes is told once."""

_ENDS = {
    "heating_at_limit": "entropy control heats within the limit of its actuators again",
    "cooling_at_limit": "entropy control cools within the limit of its actuators again",
    "mismatch_kl": "the mismatch KL is within its usual range again",
    "entropy_not_finite": "entropy is finite again",
    "weights_not_loaded": "generators load every policy version again",
    "generators_down": "every generator is up again",
    "logger": "the loggers take every record again",
}


class AlarmNews:
    """The alarms that stand, from one record to the next."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """standing alarm → the newest step with it"""

    def of(self, record: Mapping[str, Any]) -> list[str]:
        """What a record changes, as sentences. Call it with each record in turn."""
        step = record["step"]
        # A learner that restarts goes back to an earlier step.
        self._last = {kind: min(last, step) for kind, last in self._last.items()}
        news = []
        for kind, text in zip(record["alarm_kinds"], record["alarms"], strict=True):
            if kind not in self._last:
                news.append(f"alarm: {limit_text(record) if kind.endswith('_at_limit') else text}")
            self._last[kind] = step
        for kind in [kind for kind, last in self._last.items() if step - last >= CLEAR_STEPS]:
            news.append(f"{_ENDS[kind]}, since step {self._last.pop(kind) + 2}")
        return news
