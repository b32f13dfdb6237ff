"""The step records that a learner has made since the last look, each once and in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from services.records.redis_records import read_span
from services.run.state import RunStatus

LOOK_BACK = 256
"""steps before the newest one among which the first steps of a restarted learner are looked for"""


class StepFeed:
    """The records of one run from Redis. Those that the run had made before are left out."""

    def __init__(self, run_id: str, before: RunStatus | None) -> None:
        """before: the run's status as this driver starts."""
        record = None if before is None else before.record
        self._run_id = run_id
        self._lineage = -1 if record is None else record["lineage"]
        self._next = 0 if record is None else record["step"] + 1

    def new(self, redis: Redis, status: RunStatus | None) -> list[Mapping[str, Any]]:
        """The records made since the last call. A learner that restarts makes some steps again."""
        if status is None or status.record is None:
            return []
        lineage, newest = status.record["lineage"], status.record["step"]
        if lineage != self._lineage:
            found = read_span(redis, self._run_id, max(0, newest - LOOK_BACK), newest)
        elif newest >= self._next:
            found = read_span(redis, self._run_id, self._next, newest)
        else:
            return []
        self._lineage, self._next = lineage, newest + 1
        return [record for record in found if record["lineage"] == lineage]
