"""Authorization, rate limits and the audit log of the control plane."""

import threading
import time
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.access import tokens
from services.control_plane.app import create_app
from services.entropy_target.store import change_entropy_target, mark_applied
from services.redis.keys import SERVICE_TOKENS, RunKeys
from services.run.control import request_action
from tests.support.control_plane import is_problem, start_run
from trainer.config import ControlPlaneConfig, EntropyControlConfig

NOBODY = ("none", "wrong", "expired", "revoked", "another run's")
CALLERS = (*NOBODY, "viewer", "operator", "admin", "admin of all")
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
OF_ALL = {
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/{name}"),
    ("GET", "/v1/audit"),
}
BODIES = {
    ("PUT", "/v1/runs/{run_id}/entropy-target"): {"target": 0.5},
    ("PATCH", "/v1/runs/{run_id}/entropy-target"): {"target": 0.45},
    ("POST", "/v1/runs/{run_id}/tokens"): {"name": "new", "scope": "viewer", "replace": True},
    ("POST", "/v1/tokens"): {"name": "new", "scope": "viewer", "replace": True},
    ("POST", "/v1/runs/{run_id}/queue/dead-letters/{letter_id}:purge"): {"reason": "of no use"},
    ("POST", "/v1/runs/{run_id}/queue/dead-letters:purge"): {"ids": ["17-0"], "reason": "of no use"},
}


@pytest.fixture
def run(redis, run):
    mark_applied(redis, run, generation=1, step=0, epoch=0)
    return run


def bearer(token: str | None) -> dict[str, str]:
    return {"If-Match": "*"} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def every_route() -> list[tuple[str, str]]:
    """Method and path template of every operation except the event stream, which does not end."""
    from services.redis.access import RedisAccess

    document = create_app(RedisAccess("redis://unused")).openapi()
    return sorted(
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if not path.endswith("/events")
    )


def needed(method: str, path: str) -> str:
    """The scope that the security page gives for a route."""
    if path.endswith(("/tokens", "/tokens/{name}", "/audit")):
        return "admin"
    return "viewer" if method == "GET" else "operator"


def token_of(redis, run: str, caller: Any) -> str | None:
    match caller:
        case "none":
            return None
        case "wrong":
            return tokens.new_token()
        case "expired":
            return tokens.create_token(redis, run, "late", "admin", seconds=-1)
        case "revoked":
            token = tokens.create_token(redis, run, "gone", "admin")
            assert tokens.revoke_token(redis, run, "gone")
            return token
        case "another run's":
            start_run(redis, f"{run}-other")
            return tokens.create_token(redis, f"{run}-other", "stranger", "admin")
        case "admin of all":
            return tokens.create_token(redis, None, f"all-{run}", "admin")
        case scope:
            return tokens.create_token(redis, run, scope, scope)


def verdict(method: str, path: str, caller: str) -> int | None:
    """The expected status for this caller; None if the request is to be served."""
    if (method, path) in OPEN:
        return None
    if caller in ("none", "wrong", "expired", "revoked"):
        return 401
    if (method, path) in OF_ALL:
        return None if caller == "admin of all" else 403
    if "{run_id}" not in path:
        return None
    if caller == "another run's":
        return 404
    ranks = ["viewer", "operator", "admin"]
    holds = "admin" if caller == "admin of all" else caller
    return None if ranks.index(holds) >= ranks.index(needed(method, path)) else 403


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path"), every_route())
def test_a_route_is_open_to_whom_its_scope_says(client, redis, run, method, path, caller):
    token = token_of(redis, run, caller)
    before = tokens.tokens_of(redis, run), redis.hget(RunKeys(run).entropy_target, "generation")
    url = path.format(run_id=run, name="nobody", letter_id="17-0")
    answer = client.request(method, url, headers=bearer(token), json=BODIES.get((method, path)))
    expected = verdict(method, path, caller)
    if expected is not None:
        detail = is_problem(answer, expected)["detail"]
        assert (detail == "This token has expired.") == (caller == "expired")
        assert (tokens.tokens_of(redis, run), redis.hget(RunKeys(run).entropy_target, "generation")) == before
        return
    absent = answer.status_code == 404 and ("nobody" in answer.text or "unknown-dead-letter" in answer.text)
    assert answer.status_code < 300 or absent, answer.text
    assert not any(word in answer.text for word in ("insufficient_scope", "not valid"))


def test_a_token_is_made_shown_once_listed_replaced_and_revoked(client, redis, run):
    admin = bearer(tokens.create_token(redis, run, "ada", "admin"))
    path = f"/v1/runs/{run}/tokens"
    made = client.post(
        path, headers=admin, json={"name": "eve", "scope": "viewer", "expires_in_seconds": 3600}
    )
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    token = made.json()["token"]
    assert client.get(f"/v1/runs/{run}", headers=bearer(token)).status_code == 200
    listed = client.get(path, headers=admin)
    assert token not in listed.text
    assert [(t["name"], t["scope"], t["created_by"], t["expired"]) for t in listed.json()["tokens"]] == [
        ("ada", "admin", "local", False),
        ("eve", "viewer", "ada", False),
    ]
    again = {"name": "eve", "scope": "operator"}
    assert "already" in is_problem(client.post(path, headers=admin, json=again), 409)["detail"]
    newer = client.post(path, headers=admin, json=again | {"replace": True}).json()["token"]
    is_problem(client.get(f"/v1/runs/{run}", headers=bearer(token)), 401)
    assert client.get(f"/v1/runs/{run}", headers=bearer(newer)).status_code == 200
    assert client.delete(f"{path}/eve", headers=admin).status_code == 204
    is_problem(client.get(f"/v1/runs/{run}", headers=bearer(newer)), 401)
    is_problem(client.delete(f"{path}/eve", headers=admin), 404)
    assert token.encode() not in b"".join(redis.hgetall(RunKeys(run).tokens).values())


def test_a_token_ends_by_itself_and_its_name_is_free_then(client, redis, run):
    admin = bearer(tokens.create_token(redis, run, "ada", "admin"))
    body = {"name": "eve", "scope": "viewer", "expires_in_seconds": 1}
    token = client.post(f"/v1/runs/{run}/tokens", headers=admin, json=body).json()["token"]
    deadline = time.monotonic() + 10
    while client.get(f"/v1/runs/{run}", headers=bearer(token)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    listed = client.get(f"/v1/runs/{run}/tokens", headers=admin).json()["tokens"]
    assert [t["expired"] for t in listed if t["name"] == "eve"] == [True]
    assert client.post(f"/v1/runs/{run}/tokens", headers=admin, json=body).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "scope": "viewer"}, "body.name"),
        ({"name": "a b", "scope": "viewer"}, "body.name"),
        ({"name": "eve", "scope": "root"}, "body.scope"),
        ({"name": "eve", "scope": "viewer", "expires_in_seconds": 0}, "body.expires_in_seconds"),
        ({"name": "eve", "scope": "viewer", "expires_in_seconds": True}, "body.expires_in_seconds"),
        ({"name": "eve", "scope": "viewer", "replace": 1}, "body.replace"),
        ({"scope": "viewer"}, "body.name"),
    ],
)
def test_a_token_that_is_asked_for_wrongly_is_named(client, redis, run, body, field):
    admin = bearer(tokens.create_token(redis, run, "ada", "admin"))
    answer = client.post(f"/v1/runs/{run}/tokens", headers=admin, json=body)
    assert [error["field"] for error in is_problem(answer, 422)["errors"]] == [field]


def test_tokens_of_every_run_are_made_by_an_admin_of_all(client, redis, run):
    admin = bearer(tokens.create_token(redis, None, f"root-{run}", "admin"))
    made = client.post("/v1/tokens", headers=admin, json={"name": f"all-{run}", "scope": "viewer"})
    reader = bearer(made.json()["token"])
    assert client.get(f"/v1/runs/{run}", headers=reader).status_code == 200
    is_problem(client.post(f"/v1/runs/{run}:stop", headers=reader), 403)
    is_problem(client.get("/v1/tokens", headers=reader), 403)
    names = [token["name"] for token in client.get("/v1/tokens", headers=admin).json()["tokens"]]
    assert f"all-{run}" in names
    entry = client.get("/v1/audit?limit=1", headers=admin).json()["entries"][0]
    assert (entry["action"], entry["by"], entry["after"]) == (
        "create-token",
        f"root-{run}",
        f"all-{run} viewer",
    )
    redis.delete(SERVICE_TOKENS)


def test_the_audit_tells_who_changed_what_from_where_and_when_it_took_effect(client, redis, run):
    admin = bearer(tokens.create_token(redis, run, "ada", "admin"))
    control = EntropyControlConfig(target=0.4, target_max_change=0.5)
    client.put(f"/v1/runs/{run}/entropy-target", headers=admin, json={"target": 0.5})
    change_entropy_target(redis, run, 0.55, "bob", control)
    mark_applied(redis, run, generation=3, step=17, epoch=0)
    change_entropy_target(redis, run, 0.6, "bob", control)
    request_action(redis, run, "pause", "bob", "10.0.0.7")
    page = client.get(f"/v1/runs/{run}/audit?limit=3", headers=admin).json()
    older = client.get(f"/v1/runs/{run}/audit?cursor={page['next']}", headers=admin).json()
    entries = page["entries"] + older["entries"]
    assert [
        (e["action"], e["by"], e["before"], e["after"], e["generation"], e["effective_step"]) for e in entries
    ] == [
        ("pause", "bob", "run", "pause", None, None),
        ("set-target", "bob", "0.55", "0.6", 4, None),
        ("set-target", "bob", "0.5", "0.55", 3, 17),
        ("set-target", "ada", "", "0.5", 2, None),
        ("create-token", "local", "", "ada admin", None, None),
    ]
    assert older["next"] is None
    assert [e["origin"] for e in entries] == ["10.0.0.7", "local", "local", "testclient", "local"]


@pytest.fixture
def strict(redis_access):
    limits = ControlPlaneConfig(reads_per_minute=60, writes_per_minute=6)
    with TestClient(create_app(redis_access, limits), raise_server_exceptions=False) as client:
        yield client


def test_a_token_that_calls_too_often_is_told_when_to_come_again(strict, redis, run):
    operator, other = (bearer(tokens.create_token(redis, run, name, "operator")) for name in ("eve", "bob"))
    answers = [strict.get(f"/v1/runs/{run}", headers=operator) for _ in range(12)]
    assert [a.status_code for a in answers[:10]] == [200] * 10
    problem = is_problem(answers[-1], 429)
    assert problem["type"].endswith("too-many-requests")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
    assert strict.get(f"/v1/runs/{run}", headers=other).status_code == 200
    body = {"target": 0.45}
    writes = [
        strict.put(f"/v1/runs/{run}/entropy-target", headers=operator, json=body).status_code for _ in (1, 2)
    ]
    assert writes == [202, 429]
    assert redis.hget(RunKeys(run).entropy_target, "generation") == b"2"
    time.sleep(1.1)
    assert strict.get(f"/v1/runs/{run}", headers=operator).status_code == 200


def test_replicas_share_the_limit(redis_access, redis, run):
    limits = ControlPlaneConfig(reads_per_minute=60)
    operator = bearer(tokens.create_token(redis, run, "eve", "operator"))
    served = []

    def call() -> None:
        with TestClient(create_app(redis_access, limits), raise_server_exceptions=False) as replica:
            served.extend(replica.get(f"/v1/runs/{run}", headers=operator).status_code for _ in range(8))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10 <= served.count(200) <= 12
    assert served.count(200) + served.count(429) == 16


def test_prometheus_reads_every_run_that_its_token_sees(client, redis, run):
    from services.run.state import update_status
    from tests.support.step_records import record

    update_status(redis, run, phase="running", step=3)
    reader = bearer(tokens.create_token(redis, run, "prometheus", "viewer"))
    from msgspec import to_builtins

    update_status(redis, run, record=to_builtins(record(2), str_keys=True))
    answer = client.get("/metrics", headers=reader)
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert f'scope_run_phase{{key="running",run="{run}"}} 1.0' in lines
    assert f'scope_entropy{{key="",run="{run}"}} {record(2).entropy}' in lines
    assert any(line.startswith(f'scope_queue_groups{{key="unread",run="{run}"}}') for line in lines)
    assert f'scope_staleness_max_steps{{key="",run="{run}"}} {max(record(2).staleness)}.0' in lines
    assert f'scope_generators_configured{{key="base",run="{run}"}} 1.0' in lines
    assert any(line.startswith('scope_redis_memory_bytes{key="used"} ') for line in lines)
    is_problem(client.get("/metrics"), 401)


def test_prometheus_tells_each_alarm_of_the_newest_step_and_forgets_what_it_lacks(client, redis, run):
    from msgspec import to_builtins

    from services.run.state import update_status
    from tests.support.step_records import record

    reader = bearer(tokens.create_token(redis, run, "prometheus", "viewer"))

    def scraped(**changes):
        update_status(redis, run, phase="running", record=to_builtins(record(2, **changes), str_keys=True))
        lines = client.get("/metrics", headers=reader).text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    def series(name, key):
        return f'scope_{name}{{key="{key}",run="{run}"}}'

    raised = scraped(alarms=["cut off"], alarm_kinds=["all_truncated"], staleness={0: 1, 5: 2})
    assert raised[series("alarm", "all_truncated")] == 1
    assert raised[series("alarm", "starved")] == 0
    assert raised[series("staleness", "5")] == 2
    over = scraped(staleness={0: 3}, entropy=float("nan"))
    assert over[series("alarm", "all_truncated")] == 0
    assert not over.keys() & {series("staleness", "5"), series("entropy", "")}


def test_prometheus_tells_how_far_a_generator_is_behind(client, redis, run):
    from services.run.heartbeats import beat
    from services.run.state import update_status

    update_status(redis, run, phase="running", step=7)
    beat(redis, run, "base-generator-0", {"role": "base", "state": "sampling", "step": 4})
    reader = bearer(tokens.create_token(redis, run, "prometheus", "viewer"))
    lag = f'scope_generator_lag_steps{{key="base-generator-0",run="{run}"}} 3.0'
    assert lag in client.get("/metrics", headers=reader).text.splitlines()
    update_status(redis, run, phase="finished")
    assert "scope_generator_lag_steps{" not in client.get("/metrics", headers=reader).text


def test_ready_asks_for_a_learner_that_lives(client, redis, run):
    from services.run.state import update_status

    assert client.get("/readyz").status_code == 200
    is_problem(client.get(f"/readyz?run={run}"), 503)
    update_status(redis, run, phase="running")
    assert client.get(f"/readyz?run={run}").status_code == 200
    redis.hset(RunKeys(run).status, "heartbeat", repr(time.time() - 600))
    assert "no heartbeat" in is_problem(client.get(f"/readyz?run={run}"), 503)["detail"]
    is_problem(client.get("/readyz?run=absent"), 503)


def test_runs_come_in_pages(client, redis, run):
    for name in "abc":
        start_run(redis, f"{run}-{name}")
    every = bearer(tokens.create_token(redis, None, f"all-{run}", "viewer"))
    found, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/runs", headers=every, params=params).json()
        assert len(page["runs"]) <= 2
        found += [r["id"] for r in page["runs"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == sorted(found)
    assert {run, *(f"{run}-{name}" for name in "abc")} <= set(found)


@pytest.mark.parametrize("scope", ["viewer", "operator", "admin"])
def test_a_token_can_be_asked_what_it_may_do(client, redis, run, scope):
    token = tokens.create_token(redis, run, "ada", scope, seconds=3600)
    (grant,) = client.get("/v1/token", headers=bearer(token)).json()["grants"]
    ends = datetime.fromisoformat(grant.pop("expires_at")).timestamp()
    assert grant == {"run_id": run, "name": "ada", "scope": scope}
    assert ends == pytest.approx(time.time() + 3600, abs=60)
    assert token not in client.get("/v1/token", headers=bearer(token)).text


def test_a_token_of_every_run_shows_what_it_may_do_on_each(client, redis, run):
    token = tokens.create_token(redis, None, f"all-{run}", "viewer")
    tokens.register_token(redis, run, token, "ada", "operator")
    assert client.get("/v1/token", headers=bearer(token)).json()["grants"] == [
        {"run_id": None, "name": f"all-{run}", "scope": "viewer", "expires_at": None},
        {"run_id": run, "name": "ada", "scope": "operator", "expires_at": None},
    ]


@pytest.mark.parametrize("token", [tokens.new_token(), "guess"], ids=["well formed", "guess"])
def test_a_stranger_leaves_nothing_in_redis(client, redis, run, token):
    before = set(redis.keys("scope:*"))
    for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/metrics", "/v1/token", "/v1/runs"):
        is_problem(client.get(path, headers=bearer(token)), 401)
    assert set(redis.keys("scope:*")) <= before


def test_a_revocation_holds_from_the_next_read_on(client, redis, run):
    reader = bearer(tokens.create_token(redis, run, "eve", "viewer"))
    for path in ("", "/entropy-target", "/entropy-target/history", "/metrics"):
        assert client.get(f"/v1/runs/{run}{path}", headers=reader).status_code == 200
    tokens.revoke_token(redis, run, "eve")
    for path in ("", "/entropy-target", "/entropy-target/history", "/metrics"):
        is_problem(client.get(f"/v1/runs/{run}{path}", headers=reader), 401)
