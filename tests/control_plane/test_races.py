"""Requests for the same thing at the same moment: exactly one finds it free, and none is lost."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx
import pytest
from redis import Redis

from services.access import tokens
from services.access.audit import read_audit
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.run.control import desired
from tests.support.control_plane import AMPLE, entropy_target_of, start_run, target_path
from tests.support.raw_http import serving

AT_ONCE = 12
ROUNDS = 4
T = TypeVar("T")


@pytest.fixture(scope="module")
def url(redis_access: RedisAccess) -> Iterator[str]:
    """Two control planes over one Redis would behave as these threads of one do."""
    with serving(redis_access, AMPLE) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def admin(redis: Redis, run_id: str, url: str) -> Iterator[httpx.Client]:
    """A client with every right on a run that has just started."""
    start_run(redis, run_id)
    token = tokens.create_token(redis, run_id, "root", "admin")
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client


def at_once(action: Callable[[int], T]) -> list[T]:
    """The results of `action(0)`, `action(1)` and so on, called in as many threads at the same moment."""
    barrier = threading.Barrier(AT_ONCE)

    def after_all(number: int) -> T:
        barrier.wait()
        return action(number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(after_all, range(AT_ONCE)))


def test_of_simultaneous_tokens_of_one_name_one_is_created(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    for turn in range(ROUNDS):
        body = {"name": f"ada-{turn}", "scope": "viewer"}
        answers = at_once(lambda _, body=body: admin.post(f"/v1/runs/{run_id}/tokens", json=body))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: AT_ONCE - 1}
        (made,) = [answer.json()["token"] for answer in answers if answer.status_code == 201]
        assert tokens.authenticate(redis, run_id, made) == (f"ada-{turn}", "viewer")
    acts = [entry.after for entry in read_audit(redis, run_id) if entry.action == "create-token"]
    assert Counter(acts) == {"root admin": 1} | {f"ada-{turn} viewer": 1 for turn in range(ROUNDS)}


def test_of_simultaneous_replacements_one_token_stays_valid(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    body = {"name": "ada", "scope": "viewer", "replace": True}
    answers = at_once(lambda _: admin.post(f"/v1/runs/{run_id}/tokens", json=body))
    made = [answer.json()["token"] for answer in answers]
    assert len([token for token in made if tokens.authenticate(redis, run_id, token)]) == 1
    assert [record.name for record in tokens.tokens_of(redis, run_id)] == ["ada", "root"]


def test_of_simultaneous_revocations_one_revokes(admin: httpx.Client, redis: Redis, run_id: str) -> None:
    for _ in range(ROUNDS):
        tokens.create_token(redis, run_id, "ada", "viewer")
        answers = at_once(lambda _: admin.delete(f"/v1/runs/{run_id}/tokens/ada"))
        assert Counter(answer.status_code for answer in answers) == {204: 1, 404: AT_ONCE - 1}
    acts = [entry.action for entry in read_audit(redis, run_id)]
    assert acts.count("revoke-token") == ROUNDS


def test_control_planes_that_start_at_once_register_their_token_once(
    redis_access: RedisAccess, redis: Redis, run_id: str
) -> None:
    start_run(redis, run_id)
    token = tokens.new_token()

    def register(_: int) -> float:
        with redis_access.sync() as own:
            return tokens.register_token(own, run_id, token, "service", "admin").created_at

    assert len(set(at_once(register))) == 1
    assert len(read_audit(redis, run_id)) == 1


def test_of_simultaneous_changes_of_one_state_one_is_made(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    for _ in range(ROUNDS):
        before = entropy_target_of(redis, run_id).generation
        answers = at_once(
            lambda number, known=before: admin.put(
                target_path(run_id), json={"target": 0.4 + number / 1000}, headers={"If-Match": f'"{known}"'}
            )
        )
        assert Counter(answer.status_code for answer in answers) == {202: 1, 412: AT_ONCE - 1}
        assert entropy_target_of(redis, run_id).generation == before + 1


def test_simultaneous_patches_of_different_fields_all_hold(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    admin.put(target_path(run_id), json={"target": 0.4, "over_steps": 3}).raise_for_status()
    patches = [{"over_steps": 7}] + [{"target": 0.45}] * (AT_ONCE - 1)
    answers = at_once(lambda number: admin.patch(target_path(run_id), json=patches[number]))
    assert {answer.status_code for answer in answers} == {202}
    left = entropy_target_of(redis, run_id)
    assert (left.target, left.over_steps, left.generation) == (0.45, 7, 2 + AT_ONCE)


def test_of_simultaneous_requests_with_one_idempotency_key_one_is_made(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    key = {"Idempotency-Key": "once"}
    answers = at_once(lambda _: admin.put(target_path(run_id), json={"target": 0.5}, headers=key))
    assert Counter(answer.status_code for answer in answers).keys() <= {202, 409}
    assert entropy_target_of(redis, run_id).generation == 2
    again = admin.put(target_path(run_id), json={"target": 0.5}, headers=key)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")


def test_a_patch_that_is_sent_again_gets_its_first_answer_whatever_came_between(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    admin.put(target_path(run_id), json={"target": 0.4}).raise_for_status()
    key = {"Idempotency-Key": "patched"}
    first = admin.patch(target_path(run_id), json={"over_steps": 5}, headers=key)
    admin.delete(target_path(run_id)).raise_for_status()
    again = admin.patch(target_path(run_id), json={"over_steps": 5}, headers=key)
    assert (again.status_code, again.content) == (202, first.content)
    assert entropy_target_of(redis, run_id).target is None


def test_no_simultaneous_request_for_a_checkpoint_is_lost(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    assert {
        answer.status_code for answer in at_once(lambda _: admin.post(f"/v1/runs/{run_id}:checkpoint"))
    } == {202}
    assert desired(redis, run_id).checkpoints == AT_ONCE


def test_nothing_is_requested_of_a_run_after_a_simultaneous_stop(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    actions = ["stop", *["pause", "resume"] * (AT_ONCE // 2)][:AT_ONCE]
    at_once(lambda number: admin.post(f"/v1/runs/{run_id}:{actions[number]}"))
    acts = [entry.action for entry in reversed(read_audit(redis, run_id)) if entry.action != "create-token"]
    assert acts[-1] == "stop"
    assert desired(redis, run_id).state == "stop"


def test_of_simultaneous_resolutions_of_a_dead_letter_one_is_made(
    admin: httpx.Client, redis: Redis, run_id: str
) -> None:
    keys = RunKeys(run_id)
    letter = redis.xadd(
        keys.dead_letters, {"producer": "p", "group": "base:1:0", "reason": "r", "data": b"x"}
    )
    assert isinstance(letter, bytes)
    path = f"/v1/runs/{run_id}/queue/dead-letters/{letter.decode()}:purge"
    answers = at_once(lambda number: admin.post(path, json={"reason": f"by {number}"}))
    assert len({json.dumps(answer.json()) for answer in answers}) == 1
    assert [entry.action for entry in read_audit(redis, run_id)].count("purge-dead-letter") == 1
