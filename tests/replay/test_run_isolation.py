"""Two runs on one Redis are isolated: every key carries its run's hash tag, and no run changes the other's keys."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis
from starlette.testclient import TestClient

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.entropy_target.store import mark_applied, record_starting_entropy
from services.online_eval.jobs import CorrectCount, EvaluationJobs, EvaluationLeases
from services.records.redis_records import RedisRecords
from services.records.sampled_rollouts import SampledRollout, add_rollouts
from services.redis.access import RedisAccess
from services.redis.keys import RUN_INDEX, SERVICE_AUDIT, SERVICE_TOKENS, RunKeys
from services.run.control import checkpoints_done
from services.run.heartbeats import beat
from services.run.state import add_evaluation, update_status
from tests.support.control_plane import AMPLE, start_run
from tests.support.replay_harness import Queue
from tests.support.step_records import record
from trainer.rollouts.curriculum import StepMix

EMPTY_DATABASE = 5
"""in the session's server; no other test writes to it"""

ROLLOUT = SampledRollout(
    step=0,
    lineage=1,
    role="base",
    group_id="base:0:0",
    index=0,
    problem_id="p",
    prompt="1+1=",
    temperature=1.0,
    reward=1.0,
    verdict="correct",
    finish="stop",
    length=1,
    tokens=["2"],
    logprobs=[-0.1],
)


@pytest.fixture
def access(redis_access: RedisAccess) -> Iterator[RedisAccess]:
    access = replace(redis_access, url=f"{redis_access.url.rsplit('/', 1)[0]}/{EMPTY_DATABASE}")
    with access.sync() as redis:
        assert redis.dbsize() == 0
        yield access
        redis.flushdb()


def live(access: RedisAccess, run: str) -> None:
    """Write everything that the parts of a run write, and send every request of the control plane at least once."""
    queue = Queue(access, run)
    redis = queue.redis
    start_run(redis, run)
    token = create_token(redis, run, "ada", "admin")
    queue.fill(6)
    for ordinal in queue.lease(1, role="adaptive").ordinals:
        queue.add(ordinal, role="adaptive")
    queue.lease(2)
    queue.expire(6)
    queue.lease(1, by="g1")
    assert queue.add(0) == "duplicate"
    entries = queue.consumer.read(6, 0)
    for entry in entries[:4]:
        queue.consumer.dead_letter(entry.entry_id, "too old")
    queue.consumer.acknowledge([entries[4].entry_id])
    queue.consumer.trim()
    queue.consumer = queue.new_consumer()
    queue.consumer.mark_learning([entries[5].entry_id])
    assert next(queue.consumer.pending()).entry_id == entries[5].entry_id
    queue.publisher.publish_version(queue.consumer.epoch, 3)
    queue.publisher.set_mixes({0: StepMix([0], [0])})
    epoch = queue.consumer.epoch
    RedisRecords(redis, run, epoch, 0).write(record(0))
    beat(redis, run, "base-generator-0", {"role": "base"})
    mark_applied(redis, run, generation=1, step=0, epoch=epoch)
    record_starting_entropy(redis, run, 0.5, epoch)
    update_status(redis, run, phase="running", step=1)
    add_evaluation(redis, run, 0, {1: 0.5})
    beside_the_queue(access, run)
    operate(access, run, token, [letter.letter_id for letter in queue.admin.dead_letters()])
    checkpoints_done(redis, run, 1)
    queue.close()


def beside_the_queue(access: RedisAccess, run: str) -> None:
    """Write what optional parts of a run write: an open evaluation with a result, and sampled rollouts."""
    with access.sync() as redis:
        job = EvaluationJobs(redis, run).open(0, problems=2)
        add_rollouts(redis, run, [ROLLOUT], kept=5)

    async def work() -> None:
        async with access.asyncio() as redis:
            evaluation = EvaluationLeases(redis, run, ttl=5)
            assert await evaluation.lease(0, 2) == (job.id, [0, 1])
            assert await evaluation.submit(job.id, 0, CorrectCount(1, 0, 0))

    asyncio.run(work())


def operate(access: RedisAccess, run: str, token: str, letters: list[str]) -> None:
    """Request every route, with GET where it exists, and make every change."""
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*"}
    target, queue = f"/v1/runs/{run}/entropy-target", f"/v1/runs/{run}/queue"
    reason = {"reason": "cleared"}
    calls = [
        ("PUT", target, {"target": 0.5}),
        ("PATCH", target, {"target": 0.45}),
        ("DELETE", target, None),
        *(("POST", f"/v1/runs/{run}:{action}", None) for action in ("pause", "resume", "checkpoint", "stop")),
        ("POST", f"{queue}/dead-letters/{letters[0]}:requeue", None),
        ("POST", f"{queue}/dead-letters/{letters[1]}:purge", reason),
        ("POST", f"{queue}/dead-letters:purge", {"ids": letters[2:3], **reason}),
        *(("GET", path, None) for path in ("/v1/runs", f"/v1/runs/{run}", f"/v1/runs/{run}/metrics")),
        *(("GET", path, None) for path in (target, f"{target}/history", queue, f"{queue}/dead-letters")),
        ("POST", f"/v1/runs/{run}/tokens", {"name": "bob", "scope": "viewer"}),
        ("GET", f"/v1/runs/{run}/tokens", None),
        ("DELETE", f"/v1/runs/{run}/tokens/bob", None),
        ("GET", f"/v1/runs/{run}/audit", None),
    ]
    with TestClient(create_app(access, AMPLE), raise_server_exceptions=False) as client:
        for method, path, body in calls:
            once = {"Idempotency-Key": "k"} if path == target and method != "GET" else {}
            answer = client.request(method, path, headers=headers | once, json=body)
            assert answer.is_success, (method, path, answer.text)


def dumps(redis: Redis, run: str) -> dict[bytes, bytes | None]:
    """Every key of a run, serialised."""
    return {key: redis.dump(key) for key in redis.scan_iter(match=f"scope:{{{run}}}:*")}


def test_a_run_writes_only_keys_with_its_hash_tag(access: RedisAccess) -> None:
    live(access, "one")
    with access.sync() as redis:
        create_token(redis, None, "service", "viewer")
        written = {key.decode() for key in redis.scan_iter()}
    shared = {key for key in written if not key.startswith("scope:{one}:")}
    rates = {key for key in shared if key.startswith("scope:rate:")}
    assert shared - rates == {RUN_INDEX, SERVICE_TOKENS, SERVICE_AUDIT}
    keys = RunKeys("one")
    expected = {getattr(keys, name) for name, kind in vars(RunKeys).items() if isinstance(kind, property)}
    for role in ("base", "adaptive"):
        expected |= {keys.cursor(role), keys.leases(role), keys.lease_owners(role), keys.seen(role)}
    expected.add(keys.seen_attempts("base"))
    unknown = {key for key in written - shared - expected if not key.startswith(keys.idempotency(""))}
    assert unknown == set()
    assert expected - written <= {keys.leases("adaptive"), keys.lease_owners("adaptive")}, "not written"


@pytest.mark.parametrize("other", ["one.2", "one-1", "On", "o"])
def test_a_run_changes_nothing_of_another_one(access: RedisAccess, other: str) -> None:
    """The ids have a common prefix, so that a pattern without the tag would match both."""
    live(access, "one")
    with access.sync() as redis:
        before = dumps(redis, "one")
        live(access, other)
        assert dumps(redis, "one") == before
        assert len(dumps(redis, other)) == len(before)
        redis.delete(*dumps(redis, other))
        assert dumps(redis, "one") == before
