"""The run's heartbeat while its learner has none: at the start, between learners, and at the end."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from services.run.phases import BY_LEARNER, ENDED
from services.run.state import update_status

BEAT_SECONDS = 2.0
LEAVE_SECONDS = 1.0
"""How long the end of the context waits for a beat under way."""


class DriverHeartbeat:
    """Renews the heartbeat on its own thread, within the context, in the phases that are the driver's."""

    def __init__(self, redis: Redis, run_id: str, every_seconds: float = BEAT_SECONDS) -> None:
        self._redis, self._run_id, self._every = redis, run_id, every_seconds
        self.phase = "starting"
        """the run's phase, which the driver sets"""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="driver-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(LEAVE_SECONDS)

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            if self.phase in BY_LEARNER or self.phase in ENDED:
                continue
            try:
                update_status(self._redis, self._run_id)
            except RedisError:
                # Readers see the missed beat; the driver's own calls to Redis raise.
                continue
