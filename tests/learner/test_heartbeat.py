"""The learner's heartbeat continues through a long step and ends with its incarnation."""

import time

from services.learner.heartbeat import Heartbeat
from services.redis.keys import RunKeys
from services.run.state import read_status
from tests.support.control_plane import start_run


def heartbeat(redis, run_id: str) -> float:
    status = read_status(redis, run_id)
    assert status is not None
    return status.heartbeat


def beats_within(redis, run_id: str, seconds: float) -> bool:
    before, deadline = heartbeat(redis, run_id), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if heartbeat(redis, run_id) > before:
            return True
        time.sleep(0.01)
    return False


def test_it_beats_until_it_is_closed_or_replaced(redis, run_id):
    start_run(redis, run_id)
    redis.set(RunKeys(run_id).fence, 3)
    first = Heartbeat(redis, run_id, epoch=3, every_seconds=0.02)
    assert beats_within(redis, run_id, 10)
    first.close()
    assert not beats_within(redis, run_id, 0.2)
    replaced = Heartbeat(redis, run_id, epoch=3, every_seconds=0.02)
    assert beats_within(redis, run_id, 10)
    redis.incr(RunKeys(run_id).fence)
    time.sleep(0.1)
    assert not beats_within(redis, run_id, 0.2)
    replaced.close()
