"""Requests to a run as rank 0 handles them: priority, pauses, and when a checkpoint request is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from services.learner import run_requests
from services.learner.run_requests import RunRequests
from services.redis.fencing import FencedError
from services.redis.keys import RunKeys
from services.run.control import desired, request_action
from services.run.phases import Phase
from services.run.state import read_status
from tests.support.control_plane import start_run

EPOCH = 3


def nothing() -> None:
    """Settle no checkpoint."""


@pytest.fixture
def requests(redis: Redis, run_id: str, monkeypatch: pytest.MonkeyPatch) -> RunRequests:
    """The requests of a running run, as its newest learner sees them; a pause is polled twice."""
    monkeypatch.setattr(run_requests, "HOLD_SECONDS", 0.03)
    monkeypatch.setattr(run_requests, "HOLD_POLL_SECONDS", 0.02)
    start_run(redis, run_id)
    redis.set(RunKeys(run_id).fence, EPOCH)
    return RunRequests(redis, run_id, EPOCH)


@pytest.fixture
def waiting(redis: Redis, run_id: str) -> Callable[[], int]:
    """The number of requested checkpoints that are not written."""
    return lambda: desired(redis, run_id).checkpoints


def phase(redis: Redis, run_id: str) -> Phase:
    status = read_status(redis, run_id)
    assert status is not None
    return status.phase


def test_without_requests_the_run_continues(requests: RunRequests) -> None:
    assert not requests.pending()
    assert requests.next(nothing) is None


def test_a_pause_is_held_and_announced_and_ends_with_the_resume(
    requests: RunRequests, redis: Redis, run_id: str
) -> None:
    looks: list[None] = []
    request_action(redis, run_id, "pause", "ada")
    assert requests.pending()
    assert requests.next(lambda: looks.append(None)) == "idle"
    assert len(looks) > 1, "checkpoints in flight are settled at each poll"
    assert phase(redis, run_id) == "paused"
    request_action(redis, run_id, "resume", "ada")
    assert not requests.pending()
    assert requests.next(nothing) is None
    assert phase(redis, run_id) == "running"


def test_a_checkpoint_is_taken_during_a_pause_and_a_stop_comes_before_it(
    requests: RunRequests, redis: Redis, run_id: str
) -> None:
    request_action(redis, run_id, "pause", "ada")
    request_action(redis, run_id, "checkpoint", "ada")
    assert requests.next(nothing) == "checkpoint"
    request_action(redis, run_id, "stop", "ada")
    assert requests.pending()
    assert requests.next(nothing) == "stop"


@pytest.mark.parametrize(("stopped", "expected"), [(False, "saving"), (True, "stopping")])
def test_the_end_of_learning_is_announced_by_its_cause(
    requests: RunRequests, redis: Redis, run_id: str, stopped: bool, expected: str
) -> None:
    if stopped:
        request_action(redis, run_id, "stop", "ada")
        assert requests.next(nothing) == "stop"
        assert phase(redis, run_id) == "stopping"
    requests.announce_saving()
    assert phase(redis, run_id) == expected
    assert requests.stopping == stopped
    requests.announce_learned()
    assert phase(redis, run_id) == "learned"


def test_requests_are_done_at_once_where_the_checkpoint_exists(
    requests: RunRequests, redis: Redis, run_id: str, waiting: Callable[[], int]
) -> None:
    for name in ("ada", "bob"):
        request_action(redis, run_id, "checkpoint", name)
    assert requests.next(nothing) == "checkpoint"
    request_action(redis, run_id, "checkpoint", "eve")
    requests.answer_checkpoint(in_flight=False)
    assert waiting() == 1, "the third request came after the others were taken"
    assert requests.next(nothing) == "checkpoint"


def test_promised_requests_are_done_when_their_checkpoint_is_committed(
    requests: RunRequests, redis: Redis, run_id: str, waiting: Callable[[], int]
) -> None:
    request_action(redis, run_id, "checkpoint", "ada")
    assert requests.next(nothing) == "checkpoint"
    requests.answer_checkpoint(in_flight=True)
    assert waiting() == 1
    assert not requests.pending(), "nothing is left to do for the request"
    assert requests.next(nothing) is None
    requests.checkpoint_committed()
    assert waiting() == 0
    requests.checkpoint_committed()
    assert waiting() == 0


def test_a_checkpoint_that_nobody_asked_for_answers_no_request(
    requests: RunRequests, redis: Redis, run_id: str, waiting: Callable[[], int]
) -> None:
    assert requests.next(nothing) is None
    request_action(redis, run_id, "checkpoint", "ada")
    requests.answer_checkpoint(in_flight=False)
    assert waiting() == 1


def test_what_settling_raises_ends_the_wait(requests: RunRequests, redis: Redis, run_id: str) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    request_action(redis, run_id, "pause", "ada")
    with pytest.raises(OSError, match="the disk is gone"):
        requests.next(fail)


def test_a_replaced_learner_announces_nothing(requests: RunRequests, redis: Redis, run_id: str) -> None:
    before = phase(redis, run_id)
    redis.incr(RunKeys(run_id).fence)
    request_action(redis, run_id, "pause", "ada")
    with pytest.raises(FencedError):
        requests.next(nothing)
    assert phase(redis, run_id) == before
