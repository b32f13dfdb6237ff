"""The control plane over a real Redis: who may do what, which bodies pass, and how it says no."""

import json
import math
import threading
import time
from datetime import datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from services.access.tokens import Scope, create_token
from services.control_plane.app import BODY_LIMIT_BYTES, create_app
from services.entropy_target.store import mark_applied, record_starting_entropy
from services.redis.access import RedisAccess
from services.redis.keys import RUN_INDEX, RunKeys
from services.run.control import desired
from services.run.heartbeats import beat
from services.run.state import update_status
from tests.support.control_plane import entropy_target_of, is_problem, start_run, target_path

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def bearer(redis, run):
    """Headers with a token of the given scope on the run; a change is made from whatever state there is."""

    def bearer(scope: Scope) -> dict[str, str]:
        return {"Authorization": f"Bearer {create_token(redis, run, scope, scope)}", "If-Match": "*"}

    return bearer


def test_probes_are_open(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


def test_a_change_is_accepted_pending_and_shown_as_applied_from_its_step(client, redis, run, bearer):
    headers = bearer("operator")
    before = client.get(target_path(run), headers=headers)
    assert before.json()["status"] == {
        "state": "pending",
        "generation": None,
        "applied_from_step": None,
        "applied_at": None,
        "target": None,
        "step": None,
        "starting_entropy": None,
    }
    mark_applied(redis, run, generation=1, step=0, epoch=0)

    changed = client.put(target_path(run), headers=headers, json={"target": 0.35})
    assert changed.status_code == 202
    assert changed.headers["location"] == target_path(run)
    assert changed.headers["etag"] == '"2"'
    body = changed.json()
    assert body["spec"]["target"] == 0.35
    assert (body["status"]["state"], body["status"]["generation"]) == ("pending", 1)
    assert body["metadata"]["generation"] == 2
    assert body["metadata"]["updated_by"] == "operator"
    assert datetime.fromisoformat(body["metadata"]["updated_at"]).tzinfo is not None

    mark_applied(redis, run, generation=2, step=17, epoch=0)
    shown = client.get(target_path(run), headers=headers)
    assert shown.headers["etag"] == '"2"'
    assert shown.json()["spec"]["target"] == 0.35
    assert shown.json()["status"]["state"] == "applied"
    assert shown.json()["status"]["applied_from_step"] == 17


def test_waiting_returns_when_a_step_has_applied_it(client, redis, run, bearer):
    def learner() -> None:
        time.sleep(0.3)
        mark_applied(redis, run, generation=2, step=9, epoch=0)

    thread = threading.Thread(target=learner)
    thread.start()
    answer = client.put(
        f"{target_path(run)}?wait=applied&timeout=20", headers=bearer("operator"), json={"target": 0.5}
    )
    thread.join()
    assert answer.status_code == 200
    assert answer.json()["status"]["applied_from_step"] == 9


def test_waiting_ends_with_the_timeout_or_with_a_newer_generation(client, redis, run, bearer):
    headers, path = bearer("operator"), f"{target_path(run)}?wait=applied&timeout=0.2"
    pending = client.put(path, headers=headers, json={"target": 0.5})
    assert (pending.status_code, pending.json()["status"]["state"]) == (202, "pending")

    def overtake() -> None:
        time.sleep(0.2)
        client.put(target_path(run), headers=headers, json={"target": 0.7})
        mark_applied(redis, run, generation=4, step=3, epoch=0)

    thread = threading.Thread(target=overtake)
    thread.start()
    overtaken = client.put(
        f"{target_path(run)}?wait=applied&timeout=20", headers=headers, json={"target": 0.6}
    )
    thread.join()
    assert (overtaken.status_code, overtaken.json()["status"]["state"]) == (202, "superseded")
    assert overtaken.json()["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"target": true}', "body.target"),
        ('{"target": "0.3"}', "body.target"),
        ('{"target": null}', "body.target"),
        ('{"target": [0.3]}', "body.target"),
        ('{"target": NaN}', "finite"),
        ('{"target": Infinity}', "finite"),
        ('{"target": -1e999}', "finite"),
        ('{"target": 1' + 400 * "0" + "}", "body.target"),
        ('{"target": 0.3, "targets": 0.4}', "body.targets"),
        ("{}", "body.target"),
        ("[0.3]", "body"),
        ("null", "body"),
        ("", "body"),
        ('{"target": 0.3', "not JSON"),
    ],
)
def test_a_body_that_is_not_one_finite_number_is_refused(client, redis, run, bearer, body, said):
    answer = client.put(target_path(run), headers={**bearer("operator"), **JSON}, content=body)
    problem = is_problem(answer, 422)
    assert said in problem["detail"]
    assert problem["errors"]
    assert entropy_target_of(redis, run).generation == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (8000 * b"[", "nested too deeply"),
        (b'{"target": ' + 5000 * b"1" + b"}", "4300"),
        (b'{"target": 0.3, "target": 0.4}', "'target' is there twice"),
        (b"\xff\xfe{", "codec can't decode"),
        (b'{"target": "\xff"}', "codec can't decode"),
    ],
)
def test_a_body_that_cannot_even_be_parsed_is_refused(client, redis, run, bearer, body, said):
    answer = client.put(target_path(run), headers={**bearer("operator"), **JSON}, content=body)
    (error,) = is_problem(answer, 422)["errors"]
    assert error["field"] == "body"
    assert said in error["allowed"]
    assert entropy_target_of(redis, run).generation == 1


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_that_is_not_declared_as_json_is_refused(client, run, bearer, media_type):
    headers = bearer("operator") | ({"Content-Type": media_type} if media_type else {})
    is_problem(client.put(target_path(run), headers=headers, content=b'{"target": 0.3}'), 422)


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["target", "x"]), inner),
        max_leaves=6,
    )
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_but_a_single_finite_target_is_ever_accepted(client, redis, run, bearer, body):
    number = body["target"] if isinstance(body, dict) and set(body) == {"target"} else None
    assume(type(number) not in (int, float) or not 0.01 <= float(number or 0) <= 5)
    before = entropy_target_of(redis, run)
    answer = client.put(target_path(run), headers={**bearer("operator"), **JSON}, content=json.dumps(body))
    is_problem(answer, 422)
    assert entropy_target_of(redis, run) == before


@given(target=st.floats(0.01, 5.0))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_target_is_accepted_exactly_within_the_limits_of_the_run(client, redis, run, bearer, target):
    now = entropy_target_of(redis, run).target or 0.4
    assume(abs(abs(target - now) - 0.5) > 1e-6)
    answer = client.put(target_path(run), headers=bearer("operator"), json={"target": target})
    if abs(target - now) < 0.5:
        assert answer.status_code == 202
        assert entropy_target_of(redis, run).target == target
    else:
        problem = is_problem(answer, 422)
        assert problem["errors"][0]["field"] == "body.target"
        assert "at most 0.5" in problem["errors"][0]["allowed"]


def test_a_target_out_of_range_is_answered_with_field_value_and_range(client, run, bearer):
    problem = is_problem(client.put(target_path(run), headers=bearer("operator"), json={"target": 7.5}), 422)
    assert problem["type"] == "urn:scope-rl:problem:target-out-of-range"
    assert problem["errors"] == [
        {"field": "body.target", "value": "7.5", "allowed": "it must lie in [0.01, 5] nats per token"}
    ]


def test_a_run_without_entropy_control_has_no_target_to_change(client, redis, run, bearer):
    start_run(redis, run, kind="none")
    answer = client.put(target_path(run), headers=bearer("operator"), json={"target": 0.4})
    assert "entropy_control.kind=none" in is_problem(answer, 409)["detail"]
    reset = is_problem(client.delete(target_path(run), headers=bearer("operator")), 409)
    assert reset["detail"] == (
        "the run has entropy_control.kind=none and no regularizer that steers towards an entropy target."
    )
    assert reset["errors"] == []


LINEAR = {"kind": "linear", "to": 0.2, "until_step": 100}


def test_what_the_configuration_decides_is_shown_beside_the_value_in_force(client, redis, run, bearer):
    start_run(redis, run, target="auto", schedule=LINEAR)
    record_starting_entropy(redis, run, 0.45, epoch=0)
    mark_applied(redis, run, generation=1, step=0, epoch=0, target=0.45)
    mark_applied(redis, run, generation=1, step=40, epoch=0, target=0.35)
    body = client.get(target_path(run), headers=bearer("viewer")).json()
    assert body["spec"] == {
        "target": None,
        "over_steps": 0,
        "configured": {
            "target": "auto",
            "auto_fraction": 0.7,
            "schedule": {**LINEAR, "from_step": 0, "points": []},
        },
    }
    assert body["metadata"]["source"] == "configuration"
    status = body["status"]
    assert (status["state"], status["applied_from_step"]) == ("applied", 0)
    assert (status["target"], status["step"], status["starting_entropy"]) == (0.35, 40, 0.45)


def test_delete_returns_to_the_configured_schedule_from_a_step_boundary_on(client, redis, run, bearer):
    start_run(redis, run, schedule={"kind": "step", "points": [[60, 0.3]]})
    headers = bearer("operator")
    client.put(target_path(run), headers=headers, json={"target": 0.5})
    mark_applied(redis, run, generation=2, step=70, epoch=0, target=0.5)

    deleted = client.delete(target_path(run), headers=headers)
    assert (deleted.status_code, deleted.headers["etag"]) == (202, '"3"')
    assert deleted.headers["location"] == target_path(run)
    body = deleted.json()
    assert (body["spec"]["target"], body["metadata"]["source"]) == (None, "configuration")
    assert (body["metadata"]["generation"], body["metadata"]["updated_by"]) == (3, "operator")
    assert (body["status"]["state"], body["status"]["generation"]) == ("pending", 2)
    assert (body["status"]["target"], body["status"]["step"]) == (0.5, 70)

    mark_applied(redis, run, generation=3, step=71, epoch=0, target=0.3)
    again = client.delete(f"{target_path(run)}?wait=applied", headers=headers)
    assert (again.status_code, again.headers["etag"]) == (200, '"3"'), "nothing was left to return from"
    assert (again.json()["status"]["applied_from_step"], again.json()["status"]["target"]) == (71, 0.3)


def test_a_regularizer_with_a_target_takes_a_new_one_without_a_control_law(client, redis, run, bearer):
    start_run(redis, run, kind="none", regularizer="adaptive_coefficient")
    answer = client.put(target_path(run), headers=bearer("operator"), json={"target": 0.5})
    assert answer.status_code == 202
    assert entropy_target_of(redis, run).target == 0.5


@pytest.mark.parametrize("query", ["wait=later", "timeout=nan", "timeout=-1", "timeout=61", "timeout=x"])
def test_a_bad_query_changes_nothing(client, redis, run, bearer, query):
    answer = client.put(f"{target_path(run)}?{query}", headers=bearer("operator"), json={"target": 0.5})
    assert is_problem(answer, 422)["errors"][0]["field"].startswith("query.")
    is_problem(client.delete(f"{target_path(run)}?{query}", headers=bearer("operator")), 422)
    assert entropy_target_of(redis, run).generation == 1


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
    assert run in [entry["id"] for entry in client.get("/v1/runs", headers=headers).json()["runs"]]
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
