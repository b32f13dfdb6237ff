"""The replay queue over REST: its state, its dead letters, and the actions on them."""

import pytest

from services.access.tokens import Scope, create_token
from services.control_plane.schemas.queue import MOST_PURGED
from services.redis.keys import RunKeys
from tests.support.control_plane import is_problem
from tests.support.replay_harness import Queue, die, group_bytes


@pytest.fixture
def queue(redis_access, run):
    queue = Queue(redis_access, run)
    yield queue
    queue.close()


@pytest.fixture
def call(client, redis, run):
    """Send a request below the run's queue with a token of the given scope."""

    def call(method: str, path: str = "", scope: Scope = "operator", body=None):
        headers = {"Authorization": f"Bearer {create_token(redis, run, scope, scope)}"}
        return client.request(method, f"/v1/runs/{run}/queue{path}", headers=headers, json=body)

    return call


def letters_of(call, query: str = "") -> list[dict]:
    return call("GET", f"/dead-letters{query}", "viewer").json()["dead_letters"]


def test_the_state_counts_what_is_where(call, queue, redis, run):
    before = call("GET", scope="viewer").json()
    assert (before["unread"], before["oldest_unread_seconds"], before["back_pressure"]) == (0, None, False)
    die(queue, "too old")
    queue.fill(5)
    assert queue.add(1) == "duplicate"
    first, second = queue.consumer.read(2, 0)
    queue.consumer.acknowledge([first.entry_id])
    queue.lease(3)
    queue.expire(6)
    queue.lease(2, role="adaptive")
    state = call("GET", scope="viewer").json()
    size = len(group_bytes())
    assert (state["unread"], state["pending"], state["dead_letters"], state["lost"]) == (3, 1, 1, 1)
    assert 0 <= state["oldest_unread_seconds"] < 60
    assert (state["capacity"], state["share_used"]) == (4096, 3 / 4096)
    assert state["leases"] == {"base": {"held": 2, "expired": 1}, "adaptive": {"held": 2, "expired": 0}}
    assert state["bytes"]["unread"] == 3 * size
    assert state["bytes"]["unacknowledged"] == len(second.data)
    assert state["bytes"]["stream"] > 4 * size
    assert state["bytes"]["dead_letters"] > size
    assert state["counters"] == {
        "produced": 6,
        "read": 3,
        "acknowledged": 1,
        "duplicates": 1,
        "refused_full": 0,
        "dead_lettered": 1,
        "requeued": 0,
        "purged": 0,
        "releases": 0,
    }


def test_a_full_queue_is_back_pressure(call, redis, run, queue):
    redis.hset(RunKeys(run).counters, "produced", 4096)
    state = call("GET", scope="viewer").json()
    assert (state["back_pressure"], state["share_used"]) == (True, 1.0)


def test_dead_letters_are_listed_newest_first_in_pages_and_never_with_their_contents(call, queue):
    die(queue, *(f"reason {n}" for n in range(5)))
    listed = letters_of(call)
    assert [letter["reason"] for letter in listed] == [f"reason {n}" for n in (4, 3, 2, 1, 0)]
    assert listed[0].keys() == {"id", "group_id", "producer_id", "reason", "deliveries", "size", "at"}
    assert (listed[0]["group_id"], listed[0]["producer_id"]) == ("base:4:0", "g0")
    assert (listed[0]["size"], listed[0]["deliveries"]) == (len(group_bytes("base", 4)), 1)
    pages, cursor = [], ""
    while cursor is not None:
        page = call("GET", f"/dead-letters?limit=2{cursor}", "viewer").json()
        pages.append(page["dead_letters"])
        cursor = page["next"] and f"&cursor={page['next']}"
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [letter for page in pages for letter in page] == listed


@pytest.mark.parametrize("query", ["?limit=0", "?limit=201", "?limit=x", "?cursor=abc", "?cursor=1-"])
def test_a_page_that_cannot_be_meant_is_refused(call, query):
    is_problem(call("GET", f"/dead-letters{query}", "viewer"), 422)


def test_a_requeued_letter_is_in_the_queue_again_and_a_repetition_gets_the_same_answer(call, queue):
    die(queue, "too old")
    (letter,) = letters_of(call)
    assert queue.consumer.lost("base", [0]) == {0}
    answer = call("POST", f"/dead-letters/{letter['id']}:requeue")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["outcome"], body["group_id"], body["requeued_as"]) == ("requeued", "base:0:0", "base:0:1")
    assert (body["reason"], body["by"]) == (None, "operator")
    assert call("POST", f"/dead-letters/{letter['id']}:requeue").json() == body
    assert letters_of(call) == []
    state = call("GET", scope="viewer").json()
    assert (state["unread"], state["lost"], state["counters"]["requeued"]) == (1, 0, 1)
    assert [entry.group_id for entry in queue.consumer.read(5, 0)] == ["base:0:1"]


def test_a_purged_letter_is_gone_with_its_reason_and_its_place_stays_lost(call, queue):
    die(queue, "too old")
    (letter,) = letters_of(call)
    path = f"/dead-letters/{letter['id']}"
    body = call("POST", f"{path}:purge", body={"reason": "of no use"}).json()
    assert (body["outcome"], body["reason"], body["requeued_as"]) == ("purged", "of no use", None)
    assert call("POST", f"{path}:purge", body={"reason": "another"}).json() == body
    problem = is_problem(call("POST", f"{path}:requeue"), 404)
    assert problem["type"] == "urn:scope-rl:problem:unknown-dead-letter"
    assert "operator purged it (of no use)" in problem["detail"]
    state = call("GET", scope="viewer").json()
    assert (state["dead_letters"], state["lost"], state["counters"]["purged"]) == (0, 1, 1)


def test_several_are_purged_at_once_and_unknown_ones_are_named(call, queue):
    die(queue, "a", "b", "c")
    c, b, a = (letter["id"] for letter in letters_of(call))
    call("POST", f"/dead-letters/{b}:requeue")
    body = {"ids": [a, b, "1-1", a, c], "reason": "cleared"}
    report = call("POST", "/dead-letters:purge", body=body).json()
    assert [outcome["id"] for outcome in report["purged"]] == [a, c]
    assert report["unknown"] == [b, "1-1"]
    assert call("POST", "/dead-letters:purge", body=body).json() == report
    assert queue.stats.purged == 2


@pytest.mark.parametrize("action", ["requeue", "purge"])
def test_an_unknown_letter_is_404(call, action):
    problem = is_problem(call("POST", f"/dead-letters/17-0:{action}", body={"reason": "x"}), 404)
    assert problem["type"] == "urn:scope-rl:problem:unknown-dead-letter"


def test_a_letter_that_cannot_be_used_is_a_conflict_with_the_reason(call, queue):
    queue.lease(3)
    for ordinal, data in enumerate((b"rubbish", group_bytes("base", 2))):
        assert queue.add(ordinal, data=data) == "added"
    for entry in queue.consumer.read(2, 0):
        queue.consumer.dead_letter(entry.entry_id, "spoilt")
    misplaced, rubbish = letters_of(call)
    for letter, why in ((rubbish, "not a group"), (misplaced, "it holds the group base:2:0")):
        problem = is_problem(call("POST", f"/dead-letters/{letter['id']}:requeue"), 409)
        assert problem["type"] == "urn:scope-rl:problem:dead-letter-unusable"
        assert why in problem["detail"]
    assert len(letters_of(call)) == 2
    assert queue.stats.produced == 2


def test_a_full_queue_is_a_conflict_and_the_letter_stays(call, queue, redis, run):
    die(queue, "too old")
    redis.hincrby(RunKeys(run).counters, "produced", 4096)
    (letter,) = letters_of(call)
    answer = call("POST", f"/dead-letters/{letter['id']}:requeue")
    problem = is_problem(answer, 409)
    assert (problem["type"], answer.headers["retry-after"]) == ("urn:scope-rl:problem:queue-full", "5")
    assert "pipeline.queue_capacity=4096" in problem["detail"]
    assert letters_of(call) == [letter]


def test_every_change_is_in_the_audit_once(call, queue, redis, run):
    die(queue, "a", "b")
    b, a = (letter["id"] for letter in letters_of(call))
    for _ in range(2):
        call("POST", f"/dead-letters/{a}:requeue")
        call("POST", f"/dead-letters/{b}:purge", body={"reason": "of no use"})
    audit = [{k.decode(): v.decode() for k, v in e.items()} for _, e in redis.xrange(RunKeys(run).audit)]
    entries = [entry for entry in audit if entry["action"].endswith("dead-letter")]
    assert [(e["action"], e["letter"], e["before"], e["after"]) for e in entries] == [
        ("requeue-dead-letter", a, "base:0:0", "base:0:1"),
        ("purge-dead-letter", b, "base:1:0", "purged: of no use"),
    ]
    assert {(e["by"], e["origin"]) for e in entries} == {("operator", "testclient")}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 201},
        {"reason": "two\nlines"},
        {"reason": 7},
        {"reason": "x", "why": "y"},
    ],
)
def test_a_purge_needs_one_line_of_reason(call, queue, body):
    die(queue, "too old")
    (letter,) = letters_of(call)
    is_problem(call("POST", f"/dead-letters/{letter['id']}:purge", body=body), 422)
    assert letters_of(call) == [letter]


@pytest.mark.parametrize("ids", [[], ["1-1"] * (MOST_PURGED + 1), ["x"], [1], "1-1"])
def test_a_list_of_letters_has_one_to_a_hundred_ids(call, ids):
    is_problem(call("POST", "/dead-letters:purge", body={"ids": ids, "reason": "x"}), 422)


def test_viewers_look_and_operators_change(call, queue, client, run):
    die(queue, "too old")
    (letter,) = letters_of(call)
    for path in (f"/dead-letters/{letter['id']}:requeue", f"/dead-letters/{letter['id']}:purge"):
        is_problem(call("POST", path, "viewer", {"reason": "x"}), 403)
    is_problem(call("POST", "/dead-letters:purge", "viewer", {"ids": ["1-1"], "reason": "x"}), 403)
    is_problem(client.get(f"/v1/runs/{run}/queue"), 401)
    assert letters_of(call) == [letter]
