"""Changes of the entropy target over REST: accepted, refused, applied and reset."""

import json
import threading
import time
from datetime import datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.entropy_target.store import mark_applied, record_starting_entropy
from tests.support.control_plane import JSON, entropy_target_of, is_problem, start_run, target_path


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
    assert (again.status_code, again.headers["etag"]) == (200, '"3"'), (
        "there was no live target left to reset"
    )
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
