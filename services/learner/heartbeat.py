"""The learner's heartbeat: proof that its process lives, however long a step takes."""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from services.redis.fencing import FencedError
from services.run.state import update_status

BEAT_SECONDS = 10.0


class Heartbeat:
    """Renews the run's heartbeat on its own thread until `close`, or until a newer incarnation has taken over."""

    def __init__(self, redis: Redis, run_id: str, epoch: int, every_seconds: float = BEAT_SECONDS) -> None:
        self._redis, self._run_id, self._epoch, self._every = redis, run_id, epoch, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; no beat follows."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._every):
            try:
                update_status(self._redis, self._run_id, epoch=self._epoch)
            except FencedError:
                return
            except RedisError:
                # Readers see the missed beat; the learner's own calls to Redis raise.
                continue
