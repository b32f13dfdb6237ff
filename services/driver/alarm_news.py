"""Alarms of successive step records, told once when they begin and once when they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.records.alarms import LIMITS, AlarmKind, end_text, limit_text

CLEAR_STEPS = 5
"""An alarm has ended when this many steps in a row are without it, so that one that comes and goes is told once."""


class AlarmNews:
    """The alarms that stand, from one record to the next."""

    def __init__(self) -> None:
        self._last: dict[AlarmKind, int] = {}
        """standing alarm → the newest step with it"""

    def of(self, record: Mapping[str, Any]) -> list[str]:
        """What a record changes, as sentences. Call it with each record in turn."""
        step = record["step"]
        # A learner that restarts goes back to an earlier step.
        for kind, last in self._last.items():
            self._last[kind] = min(last, step)
        news = []
        for kind, text in zip(record["alarm_kinds"], record["alarms"], strict=True):
            if kind not in self._last:
                news.append(f"alarm: {limit_text(record) if kind in LIMITS else text}")
            self._last[kind] = step
        ended: list[AlarmKind] = [kind for kind, last in self._last.items() if step - last >= CLEAR_STEPS]
        for kind in ended:
            news.append(f"{end_text(kind)}, since step {self._last.pop(kind) + 2}")
        return news
