"""Pause, resume, stop and checkpoint: requests to a run, and the reactions of learner and generators."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.learner import run_requests
from services.redis.keys import RunKeys
from services.run import control
from services.run.control import Action, Refused, desired, request_action
from services.run.state import read_spec, read_status, update_status
from tests.support.control_plane import is_problem
from tests.support.runs.incarnations import Incarnations
from tests.support.runs.registered_run import register_run

AFTER_THE_END: tuple[Action, ...] = ("pause", "resume", "checkpoint")
"""refused if the run has ended or is stopping"""
HISTORY: tuple[tuple[Action, str], ...] = (
    ("pause", "pause"),
    ("pause", "pause"),
    ("resume", "run"),
    ("pause", "pause"),
    ("stop", "stop"),
)


@pytest.fixture
def incarnations(redis_access, run_id, tmp_path: Path) -> Iterator[Incarnations]:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    yield incarnations
    incarnations.close()


def test_a_run_works_holds_and_stops_as_it_is_asked_and_stop_is_final(redis, run):
    assert desired(redis, run) == ("run", 0)
    for action, state in HISTORY:
        request_action(redis, run, action, "ada")
        assert desired(redis, run).state == state
    request_action(redis, run, "stop", "ada")
    for action in AFTER_THE_END:
        with pytest.raises(Refused, match="stopping"):
            request_action(redis, run, action, "ada")
    assert desired(redis, run) == ("stop", 0)
    spec = read_spec(redis, run)
    assert spec is not None
    register_run(redis, run, spec)
    assert desired(redis, run) == ("run", 0)


@pytest.mark.parametrize("phase", ["finished", "failed"])
def test_nothing_is_asked_of_a_run_that_has_ended(redis, run, phase):
    update_status(redis, run, phase=phase)
    for action in AFTER_THE_END:
        with pytest.raises(Refused, match=phase):
            request_action(redis, run, action, "ada")
    request_action(redis, run, "stop", "ada")


def test_checkpoints_that_were_asked_for_are_counted_until_they_are_written(redis, run):
    request_action(redis, run, "checkpoint", "ada")
    request_action(redis, run, "checkpoint", "bob")
    assert desired(redis, run).checkpoints == 2
    control.checkpoints_done(redis, run, 2)
    request_action(redis, run, "checkpoint", "ada")
    assert desired(redis, run) == ("run", 1)


def test_the_audit_says_who_asked_for_what(redis, run):
    request_action(redis, run, "pause", "ada", "10.0.0.7")
    request_action(redis, run, "resume", "bob")
    entries = [
        fields for _, fields in redis.xrange(RunKeys(run).audit) if fields[b"action"] != b"create-token"
    ]
    shown = [
        tuple(e[k].decode() for k in (b"action", b"by", b"origin", b"before", b"after")) for e in entries
    ]
    assert shown == [("pause", "ada", "10.0.0.7", "run", "pause"), ("resume", "bob", "local", "pause", "run")]


def test_generators_get_nothing_to_do_while_a_run_holds(incarnations, redis, run_id):
    queue = incarnations.queue
    before = queue.lease(2).ordinals
    assert len(before) == 2
    request_action(redis, run_id, "pause", "ada")
    assert queue.lease(2).ordinals == []
    request_action(redis, run_id, "resume", "ada")
    assert queue.lease(2).ordinals == [before[-1] + 1, before[-1] + 2]


def test_the_learner_holds_between_steps_writes_what_it_is_asked_for_and_goes_on(
    incarnations, redis, run_id, monkeypatch
):
    monkeypatch.setattr(run_requests, "HOLD_SECONDS", 0.3)
    learner = incarnations.begin()
    incarnations.learn(learner, 2)
    request_action(redis, run_id, "pause", "ada")
    assert learner.next_order(2)[0].kind == "idle"
    assert learner.next_order(2)[0].kind == "idle"
    status = read_status(redis, run_id)
    assert status is not None
    assert status.phase == "paused"
    request_action(redis, run_id, "checkpoint", "ada")
    assert learner.next_order(2)[0].kind == "checkpoint"
    incarnations.checkpoint(learner)
    learner.answer_checkpoint()
    assert learner.next_order(2)[0].kind == "idle"
    request_action(redis, run_id, "resume", "ada")
    incarnations.learn(learner, 1)
    status = read_status(redis, run_id)
    assert status is not None
    assert status.phase == "running"
    request_action(redis, run_id, "pause", "ada")
    request_action(redis, run_id, "stop", "ada")
    assert learner.next_order(3)[0].kind == "stop"


def test_a_pause_reaches_a_learner_that_waits_for_groups_and_loses_none(
    incarnations, redis, run_id, monkeypatch
):
    monkeypatch.setattr(run_requests, "HOLD_SECONDS", 0.3)
    learner = incarnations.begin()
    incarnations.learn(learner, 20)
    orders: list[str] = []
    waiting = threading.Thread(target=lambda: orders.append(learner.next_order(20)[0].kind))
    waiting.start()
    time.sleep(0.3)
    request_action(redis, run_id, "pause", "ada")
    waiting.join(timeout=10)
    assert orders == ["idle"]


def test_the_routes_ask_and_refuse(redis_access, redis, run):
    headers = {"Authorization": f"Bearer {create_token(redis, run, 'ada', 'operator')}"}
    with TestClient(create_app(redis_access), raise_server_exceptions=False) as client:
        for action, state in (
            ("pause", "pause"),
            ("checkpoint", "pause"),
            ("resume", "run"),
            ("stop", "stop"),
        ):
            answer = client.post(f"/v1/runs/{run}:{action}", headers=headers)
            assert (answer.status_code, answer.json()["spec"]["control"]) == (202, state)
        assert answer.json()["status"]["checkpoints_pending"] == 1
        problem = is_problem(client.post(f"/v1/runs/{run}:pause", headers=headers), 409)
        assert problem["type"] == "urn:scope-rl:problem:run-ended"
        is_problem(client.post(f"/v1/runs/{run}:restart", headers=headers), 405)
