"""Bad entries in the real stream are dead-lettered with a reason, and the valid ones around them are applied."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.codec_fuzz import KINDS
from services.learner.collector import Collector
from services.redis.access import RedisAccess
from tests.support.chat_models import write_chat_tokenizer
from tests.support.replay_harness import Queue, always, make_group
from trainer.config import RunConfig
from trainer.roles import Role
from trainer.rollouts.trajectory import Group, TrajectoryError, VersionSpan, decode_group, encode_group
from trainer.starting_model.find import vocabulary_size

PROMPTS, STEPS, VOCABULARY = 60, 2, 500
CAP = 64 * 1024
ROLES: tuple[Role, ...] = ("base", "adaptive")


def configuration(**rollout: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "rollout": {"prompts_per_step": PROMPTS, "base_samples": 2, "adaptive_samples": 2, **rollout},
            "loss": {"minibatches": 1},
            "pipeline": {"max_staleness": 1, "entry_bytes": CAP, "batch_timeout_seconds": 60},
        }
    )


@pytest.fixture
def queue(redis_access: RedisAccess, run_id: str) -> Iterator[Queue]:
    queue = Queue(redis_access, run_id, capacity=10_000)
    for role in ROLES:
        queue.lease(PROMPTS * STEPS, role=role, limit=PROMPTS * STEPS)
    yield queue
    queue.close()


@pytest.fixture
def collectors() -> Iterator[list[Collector]]:
    opened: list[Collector] = []
    yield opened
    for collector in opened:
        collector.close()


def group_of(queue: Queue, role: Role, ordinal: int, **changes: Any) -> Group:
    """A usable group; `changes` apply to its first rollout."""
    group = make_group(role, ordinal)
    spans = [VersionSpan(0, 1, ordinal // PROMPTS)]
    first, second = (msgspec.structs.replace(t, versions=spans) for t in group.trajectories)
    rollouts = [msgspec.structs.replace(first, **changes), second]
    return msgspec.structs.replace(group, run_id=queue.run_id, trajectories=rollouts)


def data_of(group: Group) -> bytes:
    return encode_group(group, size_cap=1 << 20)


def begin(queue: Queue, collectors: list[Collector], config: RunConfig | None = None) -> Collector:
    collector = Collector(queue.consumer, config or configuration(), queue.run_id, 0, VOCABULARY)
    collectors.append(collector)
    collector.start([])
    return collector


def reasons(queue: Queue) -> dict[str, str]:
    """group id → why it was dead-lettered"""
    return {letter.group_id: letter.reason for letter in queue.admin.dead_letters(10_000)}


def decodes(data: bytes) -> bool:
    try:
        decode_group(data, size_cap=CAP)
    except TrajectoryError:
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_hostile_entries_cost_their_own_places_and_no_other(
    queue: Queue, collectors: list[Collector], seed: int
) -> None:
    """Every third entry is hostile, with the kinds in rotation; all others are applied."""
    rng = np.random.default_rng(seed)
    other = data_of(group_of(queue, "base", 0))
    kinds = list(KINDS.values())
    hostile: dict[str, bytes] = {}
    places: list[tuple[Role, int]] = [(role, ordinal) for ordinal in range(PROMPTS * STEPS) for role in ROLES]
    for number, (role, ordinal) in enumerate(places):
        data = data_of(group_of(queue, role, ordinal))
        if number % 3 == 0:
            data = kinds[number // 3 % len(kinds)](rng, data, other)
            hostile[f"{role}:{ordinal}:0"] = data
        assert queue.add(ordinal, role=role, data=data) == "added"
    collector = begin(queue, collectors)
    applied: set[str] = set()
    for step in range(STEPS):
        taken = collector.take(step, always)
        assert taken is not None
        applied |= {group.group_id for _, group in taken.groups.values()}
    dead = reasons(queue)
    everything = {f"{role}:{ordinal}:0" for role, ordinal in places}
    assert applied | dead.keys() == everything
    assert not applied & dead.keys()
    assert everything - hostile.keys() <= applied
    for group_id, data in hostile.items():
        if not decodes(data):
            assert dead[group_id].startswith("undecodable: "), group_id
    assert queue.stats.dead_lettered == len(dead) > 30
    assert queue.stats.pending == len(applied)


def tokens(*ids: int) -> bytes:
    return np.array(ids, "<i4").tobytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response_tokens": tokens(0, 1, 2, 3, VOCABULARY)}, "token id 500, model and tokenizer have 500"),
        (
            {"response_tokens": tokens(0, 1, 2, 3, 2**31 - 1)},
            "token id 2147483647, model and tokenizer have 500",
        ),
        (
            {
                "response_tokens": tokens(*range(17)),
                "behaviour_logprobs": np.full(17, -0.5, "<f4").tobytes(),
                "loss_mask": np.ones(17, "u1").tobytes(),
            },
            "a response of 17 tokens, rollout.max_new_tokens=16",
        ),
    ],
)
def test_what_would_make_the_model_fail_is_dead_lettered(
    queue: Queue, collectors: list[Collector], changes: dict[str, Any], reason: str
) -> None:
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    queue.add(0, role="base", data=data_of(group_of(queue, "base", 0, **changes)))
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    taken = collector.take(0, always)
    assert taken is not None
    assert set(taken.groups) == {("adaptive", 0)}
    assert reasons(queue) == {"base:0:0": reason}


@pytest.mark.parametrize("prompt", [tokens(1, VOCABULARY), tokens(*range(65))])
def test_a_prompt_that_the_model_cannot_take_is_dead_lettered(
    queue: Queue, collectors: list[Collector], prompt: bytes
) -> None:
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    bad = msgspec.structs.replace(group_of(queue, "base", 0), prompt_tokens=prompt)
    queue.add(0, role="base", data=data_of(bad))
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    taken = collector.take(0, always)
    assert taken is not None
    assert taken.missing == {("base", 0)}


@pytest.mark.parametrize(
    "fields",
    [
        {"group": "base:0", "producer": "g", "data": b"x"},
        {"group": "", "producer": "g", "data": b"x"},
        {"group": b"\xff\xfe:0:0", "producer": b"\xff", "data": b"x"},
        {"group": "base:1e3:0", "producer": "g", "data": b"x"},
        {"hello": "world"},
    ],
)
def test_an_entry_that_names_no_group_is_dead_lettered_and_counted(
    queue: Queue, collectors: list[Collector], fields: dict[Any, Any]
) -> None:
    """Something other than a generator writes to the stream."""
    queue.redis.xadd(queue.keys.trajectories, fields)
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    for role in ROLES:
        queue.add(0, role=role, data=data_of(group_of(queue, role, 0)))
    taken = collector.take(0, always)
    assert taken is not None
    assert not taken.missing
    assert list(reasons(queue).values()) == ["it names no group"]
    stats = queue.stats
    assert (stats.unread, stats.pending, stats.dead_lettered) == (0, 2, 1)
    assert stats.produced_bytes == stats.read_bytes


@pytest.mark.parametrize("data", [b"rubbish", None])
def test_a_second_entry_for_a_place_does_not_count_as_another_group(
    queue: Queue, collectors: list[Collector], data: bytes | None
) -> None:
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    group = group_of(queue, "base", 0)
    queue.add(0, role="base", data=data_of(group))
    again = data_of(msgspec.structs.replace(group, attempt=5)) if data is None else data
    queue.add(0, role="base", attempt=5, data=again)
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    taken = collector.take(0, always)
    assert taken is not None
    assert {g.group_id for _, g in taken.groups.values()} == {"base:0:0", "adaptive:0:0"}
    assert reasons(queue).keys() == {"base:0:5"}


def test_a_poison_entry_is_isolated_and_the_run_goes_on(queue: Queue, collectors: list[Collector]) -> None:
    """An entry whose reader dies every time is dropped after `max_deliveries`; its step is learned without it."""
    queue.add(0, role="base", data=data_of(group_of(queue, "base", 0)))
    (poison,) = queue.consumer.read(1, 0)
    for delivery in range(2, queue.max_deliveries + 1):
        queue.consumer = queue.new_consumer()
        assert next(queue.consumer.pending()).deliveries == delivery
    queue.consumer = queue.new_consumer()
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    taken = begin(queue, collectors, configuration(prompts_per_step=1)).take(0, always)
    assert taken is not None
    assert (taken.missing, set(taken.groups)) == ({("base", 0)}, {("adaptive", 0)})
    (letter,) = queue.admin.dead_letters()
    assert (letter.group_id, letter.deliveries) == (poison.group_id, queue.max_deliveries + 1)
    assert letter.reason == "the learner died 3 times in a row while it worked on it"


def test_a_requeued_group_takes_its_place_while_its_step_still_waits(
    queue: Queue, collectors: list[Collector]
) -> None:
    queue.add(0, role="base", data=data_of(group_of(queue, "base", 0)))
    (entry,) = queue.consumer.read(1, 0)
    queue.consumer.dead_letter(entry.entry_id, "a mistake")
    (letter,) = queue.admin.dead_letters()
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    assert collector.take(0, lambda: False) is None
    assert queue.admin.requeue(letter.letter_id).became == "base:0:1"
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    taken = collector.take(0, always)
    assert taken is not None
    assert (taken.missing, set(taken.groups)) == (set(), {("base", 0), ("adaptive", 0)})
    assert queue.stats.pending == 2
    assert queue.consumer.lost("base", [0]) == set()


@pytest.mark.parametrize(("text", "size"), [('{"vocab_size": 33}', 33), ("{}", None), (None, None)])
def test_the_vocabulary_is_that_of_the_model_directory(
    tmp_path: Path, text: str | None, size: int | None
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert vocabulary_size(str(tmp_path)) == size


def test_token_ids_that_only_the_model_has_do_not_count(tmp_path: Path) -> None:
    size = len(write_chat_tokenizer(tmp_path, "padded_vocabulary"))
    assert vocabulary_size(str(tmp_path)) == size
    (tmp_path / "config.json").write_text(f'{{"vocab_size": {size + 40}}}')
    assert vocabulary_size(str(tmp_path)) == size


def test_a_group_requeued_after_its_step_is_dead_lettered_again_as_late(
    queue: Queue, collectors: list[Collector]
) -> None:
    queue.add(0, role="base", data=data_of(group_of(queue, "base", 0)))
    (entry,) = queue.consumer.read(1, 0)
    queue.consumer.dead_letter(entry.entry_id, "a mistake")
    collector = begin(queue, collectors, configuration(prompts_per_step=1))
    queue.add(0, role="adaptive", data=data_of(group_of(queue, "adaptive", 0)))
    assert collector.take(0, always) is not None
    (letter,) = queue.admin.dead_letters()
    queue.admin.requeue(letter.letter_id)
    # The next step's groups follow it in the queue.
    for role in ROLES:
        queue.add(1, role=role, data=data_of(group_of(queue, role, 1)))
    assert collector.take(1, always) is not None
    assert reasons(queue) == {"base:0:1": "late: learner step 0 is done"}
    stats = queue.stats
    assert (stats.produced, stats.unread, stats.pending) == (5, 0, 3)
    assert (stats.dead_lettered, stats.requeued, stats.dead_letters) == (2, 1, 1)
    assert queue.consumer.lost("base", [0]) == {0}
