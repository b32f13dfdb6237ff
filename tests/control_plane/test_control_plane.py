"""The control plane over a real Redis: authorization, valid and invalid bodies, and error responses."""

import json
import math
import time

import pytest
from starlette.testclient import TestClient

from services.access.tokens import create_token
from services.control_plane.app import BODY_LIMIT_BYTES, create_app
from services.redis.access import RedisAccess
from services.redis.keys import RUN_INDEX, RunKeys
from services.run.control import desired
from services.run.heartbeats import beat
from services.run.state import update_status
from tests.support.control_plane import JSON, entropy_target_of, is_problem, start_run, target_path


def test_probes_are_open(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_refused_announced_or_streamed(client, run, bearer, declared):
    body = b'{"target":' + b" " * BODY_LIMIT_BYTES + b"0.3}"
    content = body if declared else iter([body[:9000], body[9000:]])
    answer = client.put(target_path(run), headers={**bearer("operator"), **JSON}, content=content)
    assert f"{BODY_LIMIT_BYTES:,} bytes" in is_problem(answer, 413)["detail"]


def test_a_body_of_the_largest_size_is_read(client, run, bearer):
    frame = b'{"target":0.3}'
    body = frame + b" " * (BODY_LIMIT_BYTES - len(frame))
    assert client.put(target_path(run), headers={**bearer("operator"), **JSON}, content=body).is_success


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer scope_wrong"},
        {"Authorization": "Bearer \xff"},
    ],
)
def test_without_a_valid_token_nothing_is_said(client, run, headers):
    for method, path in [
        ("GET", "/v1/runs"),
        ("GET", f"/v1/runs/{run}"),
        ("GET", "/v1/runs/absent"),
        ("GET", target_path(run)),
        ("PUT", target_path(run)),
        ("DELETE", target_path(run)),
        ("POST", f"/v1/runs/{run}:stop"),
    ]:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = client.request(method, path, headers=encoded)
        assert run not in is_problem(answer, 401)["detail"]
        assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_a_viewer_reads_and_does_not_write(client, redis, run, bearer):
    headers = bearer("viewer")
    assert client.get(f"/v1/runs/{run}", headers=headers).is_success
    assert client.get(target_path(run), headers=headers).is_success
    problem = is_problem(client.put(target_path(run), headers=headers, json={"target": 0.5}), 403)
    assert "viewer" in problem["detail"]
    assert "operator" in problem["detail"]
    is_problem(client.delete(target_path(run), headers=headers), 403)
    is_problem(client.post(f"/v1/runs/{run}:stop", headers=headers), 403)
    assert entropy_target_of(redis, run).generation == 1
    assert desired(redis, run).state != "stop"


def test_a_token_of_one_run_sees_no_other(client, redis, run, bearer):
    other = f"{run}-other"
    start_run(redis, other)
    headers = bearer("admin")
    listed = client.get("/v1/runs", headers=headers).json()["runs"]
    assert [entry["id"] for entry in listed] == [run]
    for unseen in (other, "absent", "b@d", "x" * 200):
        is_problem(client.get(f"/v1/runs/{unseen}", headers=headers), 404)
        is_problem(client.put(target_path(unseen), headers=headers, json={"target": 0.5}), 404)
        is_problem(client.delete(target_path(unseen), headers=headers), 404)
        is_problem(client.post(f"/v1/runs/{unseen}:stop", headers=headers), 404)
    assert desired(redis, other).state != "stop"


def test_a_token_of_the_service_sees_every_run_and_only_runs(client, redis, run):
    headers = {
        "Authorization": f"Bearer {create_token(redis, None, f'service-{run}', 'admin')}",
        "If-Match": "*",
    }
    listed = client.get("/v1/runs?limit=1000", headers=headers).json()["runs"]
    assert run in [entry["id"] for entry in listed]
    assert client.put(target_path(run), headers=headers, json={"target": 0.5}).status_code == 202
    absent = f"{run}-absent"
    is_problem(client.get(f"/v1/runs/{absent}", headers=headers), 404)
    is_problem(client.get(target_path(absent), headers=headers), 404)
    is_problem(client.put(target_path(absent), headers=headers, json={"target": 0.5}), 404)
    is_problem(client.delete(target_path(absent), headers=headers), 404)
    is_problem(client.post(f"/v1/runs/{absent}:stop", headers=headers), 404)
    assert desired(redis, absent).state != "stop"


def test_a_run_shows_what_it_is_and_how_it_goes(client, redis, run, bearer):
    update_status(redis, run, phase="running", step=5, record={"entropy": 0.41, "kl": math.nan})
    beat(redis, run, "base-0", {"role": "base", "tokens": 12})
    body = client.get(f"/v1/runs/{run}", headers=bearer("viewer")).json()
    assert body["metadata"]["versions"] == {"ray": "2.60.0"}
    assert body["spec"]["config"]["entropy_control"]["target"] == 0.4
    assert body["spec"]["control"] == "run"
    assert (body["status"]["phase"], body["status"]["step"]) == ("running", 5)
    assert body["status"]["record"] == {"entropy": 0.41, "kl": None}
    assert body["status"]["generators"]["base-0"]["tokens"] == 12
    assert 0 <= body["status"]["seconds_since_heartbeat"] < 60


def test_an_operator_stops_a_run_as_often_as_he_likes(client, redis, run, bearer):
    headers = bearer("operator")
    for _ in range(2):
        answer = client.post(f"/v1/runs/{run}:stop", headers=headers)
        assert (answer.status_code, answer.json()["spec"]["control"]) == (202, "stop")
    assert desired(redis, run).state == "stop"


@pytest.mark.parametrize("path", ["/v1", "/v1/runs/", "/docs", "/v1/runs/a/b", "/healthz/"])
def test_a_path_that_does_not_exist_is_a_problem(client, path):
    is_problem(client.get(path), 404)


def test_a_method_that_does_not_fit_is_a_problem(client, run):
    answer = client.post(target_path(run))
    is_problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_while_redis_is_away_the_control_plane_says_so_and_lives(unused_port):
    away = RedisAccess(f"redis://127.0.0.1:{unused_port}", connect_timeout_seconds=1.0)
    with TestClient(create_app(away), raise_server_exceptions=False) as client:
        started = time.monotonic()
        for method, path in [("GET", "/readyz"), ("GET", "/v1/runs"), ("PUT", target_path("a"))]:
            answer = client.request(method, path, headers={"Authorization": "Bearer x"}, json={"target": 0.3})
            is_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").is_success
        assert time.monotonic() - started < 10


def test_a_fault_of_our_own_shows_nothing_of_itself(client, redis, run, bearer):
    redis.set(RunKeys(run).generators, "not a hash")
    redis.srem(RUN_INDEX, run)
    problem = is_problem(client.get(f"/v1/runs/{run}", headers=bearer("viewer")), 500)
    assert problem["type"] == "about:blank"
    assert "hash" not in json.dumps(problem)
    assert "WRONGTYPE" not in json.dumps(problem)


@pytest.mark.parametrize("damage", ["spec", "status", "record"])
def test_a_damaged_run_is_named_and_hides_no_other(client, redis, run, damage):
    other = f"{run}-other"
    start_run(redis, other)
    headers = {"Authorization": f"Bearer {create_token(redis, None, f'all-{run}', 'viewer')}"}
    match damage:
        case "spec":
            redis.set(RunKeys(other).spec, "secret of a damaged document")
        case "status":
            redis.hset(RunKeys(other).status, "step", "secret of a damaged document")
        case "record":
            redis.hset(RunKeys(other).status, "record", "secret of a damaged document")
    try:
        listed = client.get("/v1/runs?limit=1000", headers=headers).json()
        assert run in [shown["id"] for shown in listed["runs"]]
        assert other not in [shown["id"] for shown in listed["runs"]]
        assert other in listed["unreadable"]
        problem = is_problem(client.get(f"/v1/runs/{other}", headers=headers), 500)
        assert problem["type"] == "urn:scope-rl:problem:state-damaged"
        assert other in problem["detail"]
        assert "secret" not in json.dumps(problem)
        scraped = client.get("/metrics", headers=headers).text
        assert f'scope_run_unreadable{{key="",run="{other}"}} 1.0' in scraped
        assert f'scope_run_steps_done{{key="",run="{run}"}}' in scraped
    finally:
        redis.srem(RUN_INDEX, other)


def test_the_interface_is_described(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {
        "/healthz",
        "/v1/runs",
        "/v1/runs/{run_id}",
        "/v1/runs/{run_id}:stop",
        "/v1/runs/{run_id}/entropy-target",
    }
