"""The learner's sign of life: the run's heartbeat, renewed while its process lives, however long a step takes."""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from services.redis.fencing import FencedError
from services.run.state import update_status

BEAT_SECONDS = 10.0


class Heart:
    """Beats on a thread of its own until it is closed, or a newer incarnation has taken over."""

    def __init__(self, redis: Redis, run_id: str, epoch: int, every_seconds: float = BEAT_SECONDS) -> None:
        self._redis, self._run_id, self._epoch, self._every = redis, run_id, epoch, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No beat comes after this."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            try:
                update_status(self._redis, self._run_id, epoch=self._epoch)
            except FencedError:
                return
            except RedisError:
                # Whoever needs Redis for the run's work says so; a missed beat is seen as one.
                continue
