"""The learner's sign of life: the run's heartbeat, renewed while its process lives, however long a step takes."""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from services.keys import RunKeys

BEAT_SECONDS = 10.0

_BEAT = """
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) then return 0 end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'heartbeat', string.format('%d.%06d', clock[1], clock[2]))
return 1
"""


class Heart:
    """Beats on a thread of its own until it is closed, or a newer incarnation has taken over."""

    def __init__(self, redis: Redis, run_id: str, epoch: int, every_seconds: float = BEAT_SECONDS) -> None:
        self._redis, self._keys, self._epoch, self._every = redis, RunKeys(run_id), epoch, every_seconds
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
                if not self._redis.eval(_BEAT, 2, self._keys.status, self._keys.fence, self._epoch):
                    return
            except RedisError:
                # Whoever needs Redis for the run's work says so; a missed beat is seen as one.
                continue
