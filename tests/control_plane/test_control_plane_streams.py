"""What the control plane shows of a run in progress: curves of its step records, and live events."""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.entropy_target.store import change_entropy_target, mark_applied
from services.host.sockets import bind
from services.records import redis_records
from services.records.redis_records import RedisRecords, Series, extent_read, read_series
from services.redis.fencing import FencedError
from services.redis.keys import RunKeys
from services.redis.query import fetch
from services.run.state import update_status
from tests.support.control_plane import is_problem
from tests.support.step_records import record
from trainer.config import EntropyControlConfig


def series_of(redis, run: str, fields: list[str], first: int, last: int | None, rows: int) -> Series:
    return read_series(redis, run, fetch(redis, extent_read(run)), fields, first, last, rows)


@pytest.fixture
def viewer(redis, run) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_token(redis, run, 'eve', 'viewer')}"}


def learn(redis, run: str, steps: range, *, epoch: int = 0, **changes) -> RedisRecords:
    """Write the records of some steps, as rank 0 does."""
    sink = RedisRecords(redis, run, epoch, steps.start)
    for step in steps:
        sink.write(record(step, **changes))
        update_status(redis, run, phase="running", step=step + 1)
    return sink


def test_curves_come_as_columns_of_the_newest_steps(client, redis, run, viewer):
    learn(redis, run, range(5), reward=0.25, staleness={0: 3, 1: 2})
    answer = client.get(
        f"/v1/runs/{run}/metrics?fields=entropy,reward,staleness/1,alarms_not", headers=viewer
    )
    is_problem(answer, 422)
    answer = client.get(f"/v1/runs/{run}/metrics?fields=entropy,reward,staleness/1&first=2", headers=viewer)
    assert answer.json() == {
        "first": 2,
        "last": 4,
        "steps": [2, 3, 4],
        "values": {
            "entropy": pytest.approx([record(s).entropy for s in (2, 3, 4)]),
            "reward": [0.25] * 3,
            "staleness/1": [2.0] * 3,
        },
        "lowest": {},
        "highest": {},
    }


def test_extremes_show_what_a_mean_over_several_steps_hides(client, redis, run, viewer):
    sink = learn(redis, run, range(4))
    for step, entropy in ((4, 0.1), (5, 0.9), (6, float("nan")), (7, float("nan"))):
        sink.write(record(step, entropy=entropy))
    update_status(redis, run, step=8)
    query = f"/v1/runs/{run}/metrics?fields=entropy,at&first=4&rows=2&extremes=true"
    body = client.get(query, headers=viewer).json()
    assert body["values"]["entropy"] == [pytest.approx(0.5), None]
    assert (body["lowest"]["entropy"], body["highest"]["entropy"]) == ([0.1, None], [0.9, None])
    assert body["highest"]["at"] == [record(5).at, record(7).at]
    empty = client.get(f"/v1/runs/{run}/metrics?fields=at&first=9&extremes=true", headers=viewer).json()
    assert (empty["lowest"], empty["highest"]) == ({"at": []}, {"at": []})


def test_a_run_without_steps_has_empty_curves(client, run, viewer):
    body = client.get(f"/v1/runs/{run}/metrics?fields=entropy", headers=viewer).json()
    assert (body["first"], body["last"], body["steps"], body["values"]) == (0, -1, [], {"entropy": []})


def test_a_long_range_is_averaged_over_equal_buckets_and_looked_at_in_places(redis, run, monkeypatch):
    learn(redis, run, range(40))
    entropies = [record(step).entropy for step in range(40)]
    halves = series_of(redis, run, ["entropy"], 0, None, 2)
    assert halves.steps == [19, 39]
    assert halves.values["entropy"] == pytest.approx([sum(entropies[:20]) / 20, sum(entropies[20:]) / 20])
    monkeypatch.setattr(redis_records, "MOST_READ", 4)
    sampled = series_of(redis, run, ["entropy"], 0, 39, 100)
    assert sampled.steps == [0, 13, 26, 39]
    assert sampled.values["entropy"] == pytest.approx([entropies[step] for step in sampled.steps])


def test_what_is_not_a_number_is_left_out_of_the_means(redis, run):
    sink = learn(redis, run, range(3))
    sink.write(record(3, entropy=float("nan"), entropy_target=None))
    update_status(redis, run, step=4)
    series = series_of(redis, run, ["entropy", "entropy_target"], 2, 3, 1)
    assert series.values["entropy"] == pytest.approx([record(2).entropy])
    assert series_of(redis, run, ["entropy_target"], 3, 3, 1).values["entropy_target"] == [None]


def test_a_learner_that_begins_again_forgets_the_steps_of_the_dead_lineage_and_an_old_one_may_not_write(
    redis, run
):
    old = learn(redis, run, range(6), reward=0.1)
    redis.incr(RunKeys(run).fence)
    learn(redis, run, range(3, 5), epoch=1, reward=0.9)
    rewards = series_of(redis, run, ["reward"], 0, None, 100)
    assert (rewards.steps, rewards.values["reward"]) == ([0, 1, 2, 3, 4], [0.1] * 3 + [0.9] * 2)
    assert not redis.hexists(RunKeys(run).records, "5")
    with pytest.raises(FencedError):
        old.write(record(5))
    with pytest.raises(FencedError):
        RedisRecords(redis, run, 0, 0)


@pytest.mark.parametrize(
    "query", ["first=-1", "last=x", "rows=0", "rows=2001", "fields=nonsense", "fields=,", "rows=5&rows=6"]
)
def test_a_bad_query_is_named(client, run, viewer, query):
    (error,) = is_problem(client.get(f"/v1/runs/{run}/metrics?{query}", headers=viewer), 422)["errors"]
    assert error["field"] == f"query.{query.partition('=')[0]}"


@pytest.fixture(scope="module")
def server(redis_access) -> Iterator[str]:
    """A served control plane: a test client cannot read an endless stream."""
    listener = bind("127.0.0.1", 0)
    app = uvicorn.Server(
        uvicorn.Config(create_app(redis_access), log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=app.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 30
    while not app.started:
        assert time.monotonic() < deadline, "the control plane did not start within 30 s"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    app.should_exit = True
    thread.join()


def events(lines: Iterator[str], count: int) -> list[tuple[str, str, dict]]:
    """The next events of a stream: (id, kind, data)."""
    found: list[tuple[str, str, dict]] = []
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
            fields = {}
            if len(found) == count:
                break
    return found


def test_events_follow_the_run_and_resume_where_the_client_was(server, redis, run, viewer):
    url = f"{server}/v1/runs/{run}/events"
    control = EntropyControlConfig()
    mark_applied(redis, run, generation=1, step=0, epoch=0)
    with httpx.stream("GET", url, headers=viewer, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == ": follow"
        learn(redis, run, range(2))
        change_entropy_target(redis, run, 0.5, "ada", control)
        mark_applied(redis, run, generation=2, step=2, epoch=0)
        seen = events(lines, 5)
    assert sorted(kind for _, kind, _ in seen) == ["entropy-target"] * 2 + ["phase"] + ["step"] * 2
    steps = [data for _, kind, data in seen if kind == "step"]
    assert [data["step"] for data in steps] == [0, 1]
    assert steps[1]["entropy"] == pytest.approx(record(1).entropy)
    changes = [data for _, kind, data in seen if kind == "entropy-target"]
    assert [(c["event"], c["target"], c["step"]) for c in changes] == [
        ("changed", 0.5, None),
        ("applied", None, 2),
    ]
    assert [data for _, kind, data in seen if kind == "phase"] == [{"phase": "running"}]

    learn(redis, run, range(2, 4))
    for place, missed in (("0-0_0-0", 10), (seen[-1][0], 2)):
        with httpx.stream("GET", url, headers={**viewer, "Last-Event-ID": place}, timeout=20) as answer:
            again = events(answer.iter_lines(), missed)
        assert [data["step"] for _, kind, data in again if kind == "step"][-2:] == [2, 3]
    assert len({place for place, _, _ in seen}) == len(seen)


def test_a_place_of_another_form_and_a_token_without_the_run_are_refused(server, run, viewer, redis):
    url = f"{server}/v1/runs/{run}/events"
    answer = httpx.get(url, headers={**viewer, "Last-Event-ID": "7"})
    assert answer.json()["errors"][0]["field"] == "header.last-event-id"
    assert httpx.get(url).status_code == 401
    assert httpx.get(f"{server}/v1/runs/absent/events", headers=viewer).status_code == 404


def test_the_stream_of_a_revoked_token_ends(server, redis, run, viewer, monkeypatch):
    from services.control_plane.routes import events as room

    monkeypatch.setattr(room, "WAIT_MILLISECONDS", 100)
    with httpx.stream("GET", f"{server}/v1/runs/{run}/events", headers=viewer, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": follow"
        create_token(redis, run, "eve", "viewer")
        assert all(line in ("", ": still here") for line in lines)


def test_an_age_that_no_rollout_of_a_step_has_counts_nothing(redis, run):
    sink = learn(redis, run, range(3), staleness={0: 4})
    sink.write(record(3, staleness={0: 2, 1: 2}))
    update_status(redis, run, step=4)
    fields = ["staleness/0", "staleness/1", "staleness/7", "generator_busy_share/absent"]
    series = series_of(redis, run, fields, 0, None, 1)
    assert [series.values[field] for field in fields] == [[3.5], [0.5], [0.0], [None]]


def test_curves_that_are_kept_are_never_older_than_the_records(client, redis, run, viewer):
    def rewards() -> list[float]:
        answer = client.get(f"/v1/runs/{run}/metrics?fields=reward", headers=viewer)
        return answer.json()["values"]["reward"]

    assert rewards() == []
    learn(redis, run, range(3), reward=0.1)
    assert rewards() == rewards() == [0.1] * 3
    redis.incr(RunKeys(run).fence)
    learn(redis, run, range(2, 3), epoch=1, reward=0.9)
    assert rewards() == [0.1, 0.1, 0.9]
    learn(redis, run, range(3, 4), epoch=1, reward=0.9)
    assert rewards() == [0.1, 0.1, 0.9, 0.9]
