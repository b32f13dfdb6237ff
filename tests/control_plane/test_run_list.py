"""The list of runs: what a row says, which runs are stale, and what many runs cost."""

from __future__ import annotations

import pytest

from services.access.tokens import create_token
from services.redis.keys import RUN_INDEX, RunKeys
from services.redis.query import server_time
from services.run.control import request_action
from services.run.state import STALE_SECONDS, add_evaluation, update_status
from tests.support.control_plane import start_run
from tests.support.page_harness import learned


@pytest.fixture
def listed(client, redis, run, bearer):
    """The row of the run, read anew."""
    headers = bearer("viewer")

    def listed() -> dict:
        (row,) = client.get("/v1/runs", headers=headers).json()["runs"]
        return row

    return listed


def silent(redis, run: str, seconds: float) -> None:
    """Set the run's heartbeat back."""
    redis.hset(RunKeys(run).status, "heartbeat", server_time(redis) - seconds)


def test_a_run_without_a_step_has_no_numbers(listed):
    row = listed()
    assert (row["phase"], row["control"], row["stale"], row["error"]) == ("starting", "run", False, None)
    assert [row[name] for name in ("entropy", "entropy_target", "reward", "evaluation")] == [None] * 4
    assert (row["saturated"], row["alarms"]) == (False, [])
    assert row["phase_since"] is not None


def test_a_row_has_the_newest_step_and_the_newest_held_out_results(redis, run, listed):
    learned(redis, run, 30, saturated=True, alarms=["an alarm"])
    add_evaluation(redis, run, 0, {1: 0.2, 4: 0.5})
    add_evaluation(redis, run, 20, {1: 0.3, 4: 0.6})
    request_action(redis, run, "pause", "ada")
    row = listed()
    assert (row["step"], row["of"], row["control"]) == (30, 160, "pause")
    assert (row["entropy"], row["entropy_target"], row["reward"]) == (0.4, 0.4, 0.29)
    assert (row["saturated"], row["alarms"]) == (True, ["an alarm"])
    assert row["evaluation"] == {"step": 20, "pass_at_k": {"1": 0.3, "4": 0.6}}


def test_a_silent_run_is_stale_unless_it_has_ended(redis, run, listed):
    update_status(redis, run, phase="running")
    silent(redis, run, STALE_SECONDS - 5)
    assert not listed()["stale"]
    silent(redis, run, STALE_SECONDS + 5)
    row = listed()
    assert row["stale"]
    assert STALE_SECONDS + 5 <= row["seconds_since_heartbeat"] < STALE_SECONDS + 20
    update_status(redis, run, phase="failed", error="the disk is full")
    silent(redis, run, 1000)
    row = listed()
    assert (row["stale"], row["error"]) == (False, "the disk is full")


def test_the_status_of_a_run_says_the_same_of_its_silence_and_phase(client, redis, run, bearer, listed):
    update_status(redis, run, phase="running")
    silent(redis, run, 100)
    status = client.get(f"/v1/runs/{run}", headers=bearer("operator")).json()["status"]
    row = listed()
    assert status["stale"] is row["stale"] is True
    assert status["phase_since"] == row["phase_since"]


@pytest.mark.parametrize("damage", ["evaluation", "record"])
def test_a_row_that_cannot_be_made_hides_no_other(client, redis, run, damage):
    other = f"{run}-other"
    start_run(redis, other)
    document = {"evaluation": '{"step": "x"}', "record": '{"entropy": "high"}'}[damage]
    redis.hset(RunKeys(other).status, damage, document)
    token = create_token(redis, None, f"all-{run}", "viewer")
    try:
        answer = client.get("/v1/runs?limit=1000", headers={"Authorization": f"Bearer {token}"}).json()
        assert other in answer["unreadable"]
        assert run in [row["id"] for row in answer["runs"]]
    finally:
        redis.srem(RUN_INDEX, other)


def test_hundreds_of_runs_are_read_in_few_round_trips(client, redis, run_id):
    ids = [f"{run_id}-{number:03}" for number in range(200)]
    headers = {"Authorization": f"Bearer {create_token(redis, None, f'all-{run_id}', 'viewer')}"}
    for one in ids:
        start_run(redis, one)
    try:
        before = reads(redis)
        answer = client.get(f"/v1/runs?limit=200&cursor={run_id}", headers=headers)
        assert [row["id"] for row in answer.json()["runs"]] == ids
        assert reads(redis) - before < 40
    finally:
        redis.srem(RUN_INDEX, *ids)


def reads(redis) -> int:
    """Reads from sockets that the server has made: one for each round trip, and for each 16 KiB of a long request."""
    return redis.info("stats")["total_reads_processed"]
