"""Changes of the entropy target over REST: preconditions, idempotency, merge patches and history."""

import json
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.access.tokens import create_token
from services.entropy_target.store import mark_applied
from services.redis.idempotency import KEPT_SECONDS
from services.redis.keys import RunKeys
from services.run.control import request_action
from services.run.state import update_status
from tests.support.control_plane import entropy_target_of, is_problem, start_run, target_path


@pytest.fixture
def put(client, redis, run):
    """Send a PUT as an operator, with the given headers."""
    token = create_token(redis, run, "ada", "operator")

    def put(target: float, method: str = "PUT", query: str = "", body=None, **headers: str):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Authorization"] = f"Bearer {token}"
        content = {"target": target} if body is None else body
        data = None if method == "DELETE" else json.dumps(content)
        return client.request(
            method,
            target_path(run) + query,
            content=data,
            headers={"Content-Type": "application/json", **named},
        )

    return put


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_change_from_an_unknown_state_is_refused(put, redis, run, method):
    assert is_problem(put(0.5, method), 428)["type"] == "urn:scope-rl:problem:precondition-required"
    assert entropy_target_of(redis, run).generation == 1


@pytest.mark.parametrize("tags", ['"1"', '"0", "1"', '"9" ,"1"', "*"])
def test_a_change_from_the_newest_state_is_made(put, redis, run, tags):
    answer = put(0.5, If_Match=tags)
    assert (answer.status_code, answer.headers["etag"]) == (202, '"2"')
    assert entropy_target_of(redis, run).target == 0.5


@pytest.mark.parametrize("tags", ['"2"', '"0"', '"01"', '"one"', 'W/"1"', '""', '"99999999999999999999"'])
def test_a_change_from_another_state_is_refused_with_the_newest(put, redis, run, tags):
    answer = put(0.5, If_Match=tags)
    problem = is_problem(answer, 412)
    assert (problem["type"], answer.headers["etag"]) == ("urn:scope-rl:problem:generation-changed", '"1"')
    assert "generation 1, by configuration" in problem["detail"]
    assert entropy_target_of(redis, run).generation == 1


@pytest.mark.parametrize("tags", ["1", "", '"1', '"1" "2"', "*,*"])
def test_what_is_no_etag_is_named(put, tags):
    (error,) = is_problem(put(0.5, If_Match=tags), 422)["errors"]
    assert error["field"] == "header.if-match"


def test_of_two_callers_that_know_the_same_state_one_is_refused(put, redis, run):
    codes: list[int] = []
    callers = [
        threading.Thread(target=lambda: codes.append(put(0.5, If_Match='"1"').status_code)) for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(codes) == [202] + [412] * 7
    assert entropy_target_of(redis, run).generation == 2


def test_a_repetition_gets_the_first_answer_and_changes_nothing(put, redis, run):
    first = put(0.5, If_Match='"1"', Idempotency_Key="k1")
    mark_applied(redis, run, generation=2, step=3, epoch=0)
    put(0.6, If_Match='"2"')
    again = put(0.5, If_Match='"1"', Idempotency_Key="k1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (again.headers["etag"], again.headers["idempotency-replayed"]) == ('"2"', "true")
    assert "idempotency-replayed" not in first.headers
    assert entropy_target_of(redis, run).generation == 3


def test_a_key_belongs_to_its_request_its_route_and_its_token(put, client, redis, run):
    put(0.5, If_Match="*", Idempotency_Key="k")
    problem = is_problem(put(0.6, If_Match="*", Idempotency_Key="k"), 422)
    assert problem["type"] == "urn:scope-rl:problem:idempotency-key-reused"
    assert put(0.5, "DELETE", If_Match="*", Idempotency_Key="k").status_code == 202
    other = create_token(redis, run, "bob", "operator")
    headers = {"Authorization": f"Bearer {other}", "If-Match": "*", "Idempotency-Key": "k"}
    assert client.put(target_path(run), headers=headers, json={"target": 0.6}).status_code == 202
    assert entropy_target_of(redis, run).generation == 4


@pytest.mark.parametrize("key", ["", "a b", "k" * 256])
def test_a_key_of_another_form_is_named(put, key):
    (error,) = is_problem(put(0.5, If_Match="*", Idempotency_Key=key), 422)["errors"]
    assert error["field"] == "header.idempotency-key"


def test_while_the_first_waits_a_repetition_is_told_so_and_a_refused_request_may_come_again(put, redis, run):
    first: list = []
    query = "?wait=applied&timeout=5"
    waiting = threading.Thread(
        target=lambda: first.append(put(0.5, query=query, If_Match="*", Idempotency_Key="w"))
    )
    waiting.start()
    deadline = time.monotonic() + 5
    while entropy_target_of(redis, run).generation == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    problem = is_problem(put(0.5, query=query, If_Match="*", Idempotency_Key="w"), 409)
    assert problem["type"] == "urn:scope-rl:problem:request-running"
    mark_applied(redis, run, generation=2, step=4, epoch=0)
    waiting.join()
    assert first[0].status_code == 200
    assert put(0.5, query=query, If_Match="*", Idempotency_Key="w").content == first[0].content
    is_problem(put(9.0, If_Match="*", Idempotency_Key="r"), 422)
    assert put(0.6, If_Match="*", Idempotency_Key="r").status_code == 202, (
        "a refused request must not use up its key"
    )


def test_a_server_killed_before_its_answer_leaves_a_change_that_is_not_made_again(put, client, redis, run):
    put(0.5, If_Match="*", Idempotency_Key="k")
    (record,) = redis.scan_iter(match=RunKeys(run).idempotency("*"))
    assert KEPT_SECONDS - 60 < redis.ttl(record) <= KEPT_SECONDS
    redis.hdel(record, "status", "body", "etag")
    is_problem(put(0.5, If_Match="*", Idempotency_Key="k"), 409)
    redis.hset(record, "until", "0")
    mark_applied(redis, run, generation=2, step=4, epoch=0)
    answer = put(0.5, If_Match="*", Idempotency_Key="k")
    assert answer.status_code == 200
    assert answer.json()["metadata"]["generation"] == entropy_target_of(redis, run).generation == 2
    assert put(0.5, If_Match="*", Idempotency_Key="k").content == answer.content


def test_a_patch_changes_what_it_names(put, redis, run):
    assert put(0, "PATCH", body={"target": 0.5, "over_steps": 10}, If_Match='"1"').status_code == 202
    put(0, "PATCH", body={"target": 0.6}, If_Match='"2"')
    assert (entropy_target_of(redis, run).target, entropy_target_of(redis, run).over_steps) == (0.6, 10)
    put(0, "PATCH", body={"over_steps": None}, If_Match='"3"')
    assert (entropy_target_of(redis, run).target, entropy_target_of(redis, run).over_steps) == (0.6, 0)
    back = put(0, "PATCH", body={"target": None}, If_Match='"4"').json()
    assert (back["spec"]["target"], back["metadata"]["source"]) == (None, "configuration")


def test_a_patch_without_a_target_needs_one_to_keep(put):
    for body in ({}, {"over_steps": 3}):
        (error,) = is_problem(put(0, "PATCH", body=body, If_Match="*"), 422)["errors"]
        assert error["field"] == "body.target"


@given(over=st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=3), st.none()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_only_a_whole_number_of_steps_in_range_is_accepted(put, over):
    answer = put(0, body={"target": 0.5, "over_steps": over}, If_Match="*")
    whole = isinstance(over, int | float) and not isinstance(over, bool) and over == over // 1
    good = whole and 0 <= over <= 1_000_000
    assert answer.status_code == (202 if good else 422), answer.text


def test_the_history_is_one_order_of_changes_and_effects_in_pages(put, client, redis, run):
    headers = {"Authorization": f"Bearer {create_token(redis, run, 'eve', 'viewer')}"}
    mark_applied(redis, run, generation=1, step=0, epoch=0)
    put(0.5, If_Match="*")
    put(0.6, body={"target": 0.6, "over_steps": 5}, If_Match="*")
    mark_applied(redis, run, generation=3, step=7, epoch=0)

    def page(query: str) -> dict:
        answer = client.get(f"{target_path(run)}/history{query}", headers=headers)
        assert answer.status_code == 200
        return answer.json()

    whole = page("")
    assert whole["next"] is None
    assert [(e["event"], e["generation"], e["step"]) for e in reversed(whole["events"])] == [
        ("changed", 1, None),
        ("applied", 1, 0),
        ("changed", 2, None),
        ("changed", 3, None),
        ("superseded", 2, 7),
        ("applied", 3, 7),
    ]
    changed = next(e for e in whole["events"] if e["event"] == "changed")
    assert (changed["target"], changed["over_steps"], changed["by"]) == (0.6, 5, "ada")
    pages, cursor = [], ""
    while cursor is not None:
        got = page(f"?limit=4{cursor}")
        pages.append(got["events"])
        cursor = None if got["next"] is None else f"&cursor={got['next']}"
    assert [len(p) for p in pages] == [4, 2]
    assert [event for page in pages for event in page] == whole["events"]
    for query in ("?limit=0", "?limit=1001", "?cursor=abc", "?limit=x"):
        is_problem(client.get(f"{target_path(run)}/history{query}", headers=headers), 422)


def test_every_change_is_in_the_audit_with_who_whence_before_and_after(put, redis, run):
    put(0.5, If_Match="*")
    put(0.6, If_Match="*")
    put(0, "DELETE", If_Match="*")
    entries = [
        fields for _, fields in redis.xrange(RunKeys(run).audit) if fields[b"action"] != b"create-token"
    ]
    assert [(e[b"action"], e[b"before"], e[b"after"], e[b"generation"]) for e in entries] == [
        (b"set-target", b"", b"0.5", b"2"),
        (b"set-target", b"0.5", b"0.6", b"3"),
        (b"reset-target", b"0.6", b"", b"4"),
    ]
    assert {(e[b"by"], e[b"origin"]) for e in entries} == {(b"ada", b"testclient")}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("end", "word"),
    [("finished", "has finished"), ("failed", "has failed"), ("stop", "is stopping")],
)
def test_nothing_is_changed_about_a_run_that_no_learner_step_follows(put, redis, run, end, word, method):
    put(0.35, If_Match="*", Idempotency_Key="before")
    if end == "stop":
        request_action(redis, run, "stop", "ada")
    else:
        update_status(redis, run, phase=end)
    history = redis.xlen(RunKeys(run).entropy_target_history), redis.xlen(RunKeys(run).audit)
    problem = is_problem(put(0.3, method, If_Match="*", Idempotency_Key="after"), 409)
    assert problem["type"] == "urn:scope-rl:problem:run-ended"
    assert word in problem["detail"]
    assert entropy_target_of(redis, run).generation == 2
    assert (redis.xlen(RunKeys(run).entropy_target_history), redis.xlen(RunKeys(run).audit)) == history
    # Requests accepted before get the same response as before.
    again = put(0.35, If_Match="*", Idempotency_Key="before")
    assert (again.status_code, again.json()["metadata"]["generation"]) == (202, 2)


def test_a_resumed_run_takes_changes_again(put, redis, run):
    update_status(redis, run, phase="finished")
    is_problem(put(0.35, If_Match="*"), 409)
    start_run(redis, run)
    assert put(0.35, If_Match="*").status_code == 202
