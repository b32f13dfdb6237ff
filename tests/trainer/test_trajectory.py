"""The trajectory codec: valid groups survive the round trip; any other input raises `TrajectoryError`."""

import pickle

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.replay_harness import SIZE_CAP, make_group
from trainer.roles import MOST_ROLLOUTS
from trainer.rollouts.trajectory import (
    LONGEST_TEXT,
    MOST_COMPONENTS,
    MOST_SPANS,
    SCHEMA_VERSION,
    Group,
    Trajectory,
    TrajectoryError,
    VersionSpan,
    decode_group,
    encode_group,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
tokens = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    response = draw(tokens)
    length = len(response)
    logprobs = draw(st.lists(st.floats(-100, 0, width=32), min_size=length, max_size=length))
    mask = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
    starts = [0, *sorted(draw(st.sets(st.integers(1, length - 1), max_size=3)))] if length > 1 else [0]
    return Trajectory(
        group_index=draw(st.integers(0, 64)),
        response_tokens=np.array(response, "<i4").tobytes(),
        behaviour_logprobs=np.array(logprobs, "<f4").tobytes(),
        loss_mask=np.array(mask, "u1").tobytes(),
        logprob_temperature=draw(st.floats(0.05, 10)),
        versions=[VersionSpan(start, draw(counts), draw(counts)) for start in starts],
        reward=draw(finite),
        reward_components=draw(st.dictionaries(st.text(max_size=8), finite, max_size=3)),
        verdict=draw(st.text(max_size=20)),
        finish_reason=draw(st.sampled_from(("stop", "length"))),
    )


@st.composite
def groups(draw: st.DrawFn) -> Group:
    started = draw(st.floats(0, 2e9))
    return Group(
        run_id=draw(st.text(min_size=1, max_size=20)),
        task="countdown",
        problem_id=draw(st.text(max_size=20)),
        role=draw(st.sampled_from(("base", "adaptive"))),
        ordinal=draw(counts),
        attempt=draw(st.integers(0, 5)),
        sampling_temperature=draw(st.floats(0.05, 10)),
        entropy_target_generation=draw(counts),
        prompt_tokens=np.array(draw(tokens), "<i4").tobytes(),
        producer_id=draw(st.text(max_size=20)),
        producer_sequence=draw(counts),
        started_at=started,
        finished_at=started + 1,
        trajectories=draw(st.lists(trajectories(), min_size=1, max_size=4)),
    )


@given(groups())
@settings(max_examples=200, deadline=None)
def test_a_group_survives_the_round_trip(group: Group) -> None:
    data = encode_group(group, size_cap=SIZE_CAP)
    again = decode_group(data, size_cap=SIZE_CAP)
    assert again == group
    assert encode_group(again, size_cap=SIZE_CAP) == data
    assert again.oldest_step == min(span.step for t in group.trajectories for span in t.versions)


def test_arrays_come_back_typed_and_read_only() -> None:
    group = decode_group(encode_group(make_group(tokens=5), size_cap=SIZE_CAP), size_cap=SIZE_CAP)
    rollout = group.trajectories[0]
    assert rollout.tokens.tolist() == [0, 1, 2, 3, 4]
    assert rollout.logprobs.tolist() == [-0.5] * 5
    assert rollout.mask.tolist() == [1] * 5
    assert group.prompt.tolist() == [1, 2, 3]
    dtypes = [a.dtype for a in (rollout.tokens, rollout.logprobs, rollout.mask, group.prompt)]
    assert dtypes == [np.dtype("<i4"), np.dtype("<f4"), np.dtype("u1"), np.dtype("<i4")]
    assert not any(a.flags.writeable for a in (rollout.tokens, rollout.logprobs, rollout.mask, group.prompt))


def test_the_group_id_names_role_ordinal_and_attempt() -> None:
    assert make_group("adaptive", 12, attempt=3).group_id == "adaptive:12:3"


def f4(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response_tokens": b"\0" * 19}, "response_tokens has 19 bytes for 5"),
        ({"behaviour_logprobs": b"\0" * 24}, "behaviour_logprobs has 24 bytes for 5"),
        ({"loss_mask": b""}, "at least one response token"),
        ({"loss_mask": b"\1\1\1\1\2"}, "other than 0 and 1"),
        ({"response_tokens": np.array([1, -1, 1, 1, 1], "<i4").tobytes()}, "negative token id"),
        ({"behaviour_logprobs": f4(-1, -1, 0.5, -1, -1)}, "finite and not positive"),
        ({"behaviour_logprobs": f4(-1, -1, np.nan, -1, -1)}, "finite and not positive"),
        ({"behaviour_logprobs": f4(-1, -1, -np.inf, -1, -1)}, "finite and not positive"),
        ({"reward": float("nan")}, "reward and reward_components must be finite"),
        ({"reward_components": {"correct": float("inf")}}, "reward and reward_components must be finite"),
        ({"logprob_temperature": float("inf")}, "logprob_temperature must be positive and finite"),
        ({"logprob_temperature": 0.0}, "logprob_temperature must be positive and finite"),
        ({"group_index": -1}, "group_index must be non-negative"),
        ({"verdict": "x" * (LONGEST_TEXT + 1)}, "a text of 4,097 characters"),
        ({"versions": [VersionSpan(0, 0, -1)]}, "must be non-negative"),
        ({"versions": []}, "must begin at token 0"),
        ({"versions": [VersionSpan(1, 0, 0)]}, "must begin at token 0"),
        ({"versions": [VersionSpan(0, 0, 0), VersionSpan(0, 0, 1)]}, "and increase"),
        ({"versions": [VersionSpan(0, 0, 0), VersionSpan(5, 0, 1)]}, "begins at token 5 of 5"),
    ],
)
def test_an_invalid_rollout_is_refused_on_both_sides(change: dict[str, object], message: str) -> None:
    good = make_group(tokens=5)
    bad = msgspec.structs.replace(good.trajectories[0], **change)
    group = msgspec.structs.replace(good, trajectories=[good.trajectories[1], bad])
    with pytest.raises(TrajectoryError, match=message):
        encode_group(group, size_cap=SIZE_CAP)
    with pytest.raises(TrajectoryError, match=message):
        decode_group(msgspec.msgpack.encode(group), size_cap=SIZE_CAP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, f"schema version {SCHEMA_VERSION + 1}, this software reads"),
        ({"trajectories": []}, "at least one trajectory"),
        ({"prompt_tokens": b""}, "prompt_tokens has 0 bytes"),
        ({"prompt_tokens": b"\0" * 6}, "prompt_tokens has 6 bytes"),
        ({"ordinal": -1}, "non-negative"),
        ({"attempt": -1}, "non-negative"),
        ({"entropy_target_generation": -1}, "non-negative"),
        ({"producer_sequence": -1}, "non-negative"),
        ({"sampling_temperature": float("nan")}, "positive and finite"),
        ({"sampling_temperature": -1.0}, "positive and finite"),
        ({"started_at": float("inf")}, "must be finite"),
        ({"finished_at": float("nan")}, "must be finite"),
        ({"prompt_tokens": np.array([1, -5], "<i4").tobytes()}, "prompt_tokens holds a negative token id"),
        ({"problem_id": "x" * (LONGEST_TEXT + 1)}, "a text of 4,097 characters"),
    ],
)
def test_an_invalid_group_is_refused_on_both_sides(change: dict[str, object], message: str) -> None:
    group = msgspec.structs.replace(make_group(), **change)
    with pytest.raises(TrajectoryError, match=message):
        encode_group(group, size_cap=SIZE_CAP)
    with pytest.raises(TrajectoryError, match=message):
        decode_group(msgspec.msgpack.encode(group), size_cap=SIZE_CAP)


@pytest.mark.parametrize(
    "change",
    [
        {"ordinal": "7"},
        {"role": "other"},
        {"prompt_tokens": [1, 2]},
        {"sampling_temperature": None},
        {"run_id": 3},
    ],
)
def test_a_field_of_another_type_is_refused(change: dict[str, object]) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(make_group())) | change
    with pytest.raises(TrajectoryError, match="not a group"):
        decode_group(msgspec.msgpack.encode(fields), size_cap=SIZE_CAP)


@pytest.mark.parametrize(
    "change",
    [
        {"versions": [VersionSpan(0, 0, 0)] * (MOST_SPANS + 1)},
        {"reward_components": {str(n): 1.0 for n in range(MOST_COMPONENTS + 1)}},
    ],
)
def test_counts_are_limited_on_both_sides(change: dict[str, object]) -> None:
    rollout = msgspec.structs.replace(make_group(tokens=200).trajectories[0], **change)
    group = msgspec.structs.replace(make_group(), trajectories=[rollout])
    many = msgspec.structs.replace(make_group(), trajectories=make_group().trajectories * MOST_ROLLOUTS)
    for bad in (group, many):
        with pytest.raises(TrajectoryError):
            encode_group(bad, size_cap=SIZE_CAP)
        with pytest.raises(TrajectoryError, match="of length <="):
            decode_group(msgspec.msgpack.encode(bad), size_cap=SIZE_CAP)


def test_an_entry_of_another_version_is_refused_by_that_name_whatever_it_holds() -> None:
    entry = msgspec.msgpack.encode({"schema_version": SCHEMA_VERSION + 1, "rollouts": [1, 2, 3]})
    with pytest.raises(
        TrajectoryError, match=f"schema version {SCHEMA_VERSION + 1}, this software reads {SCHEMA_VERSION}"
    ):
        decode_group(entry, size_cap=SIZE_CAP)


@pytest.mark.parametrize("place", ["group", "rollout"])
def test_a_field_that_nobody_knows_is_refused(place: str) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(make_group()))
    (fields if place == "group" else fields["trajectories"][0])["extra"] = 1
    with pytest.raises(TrajectoryError, match="unknown field `extra`"):
        decode_group(msgspec.msgpack.encode(fields), size_cap=SIZE_CAP)


def test_a_missing_field_is_refused() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(make_group()))
    del fields["role"]
    with pytest.raises(TrajectoryError, match="missing required field `role`"):
        decode_group(msgspec.msgpack.encode(fields), size_cap=SIZE_CAP)


def test_the_size_cap_holds_on_both_sides() -> None:
    data = encode_group(make_group(), size_cap=SIZE_CAP)
    assert encode_group(make_group(), size_cap=len(data)) == data
    with pytest.raises(TrajectoryError, match="above the cap"):
        encode_group(make_group(), size_cap=len(data) - 1)
    with pytest.raises(TrajectoryError, match="above the cap"):
        decode_group(data, size_cap=len(data) - 1)


def decodes(data: bytes) -> bool:
    """Whether `data` decodes to a group; any exception except `TrajectoryError` fails the test."""
    try:
        group = decode_group(data, size_cap=SIZE_CAP)
    except TrajectoryError:
        return False
    # An accepted group must be usable: its arrays are consistent and it encodes again.
    assert all(len(t.tokens) == len(t.logprobs) == len(t.mask) > 0 for t in group.trajectories)
    encode_group(group, size_cap=SIZE_CAP)
    return True


def test_flipped_bits_give_a_valid_group_or_a_trajectory_error() -> None:
    rng = np.random.default_rng(1)
    data = np.frombuffer(encode_group(make_group(tokens=30), size_cap=SIZE_CAP), np.uint8)
    refused = 0
    for _ in range(15_000):
        damaged = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 4))
        damaged[places] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
        refused += not decodes(damaged.tobytes())
    assert refused > 3_000


def test_every_truncation_and_every_extension_is_refused() -> None:
    data = encode_group(make_group(tokens=30), size_cap=SIZE_CAP)
    assert decodes(data)
    assert not any(decodes(data[:length]) for length in range(len(data)))
    assert not any(decodes(data + bytes([extra])) for extra in range(256))


def test_replaced_and_swapped_pieces_give_a_valid_group_or_a_trajectory_error() -> None:
    rng = np.random.default_rng(2)
    data = encode_group(make_group(tokens=30), size_cap=SIZE_CAP)
    refused = 0
    for _ in range(5_000):
        start, other = rng.integers(0, len(data), 2)
        length = rng.integers(1, 24)
        piece = rng.bytes(int(length)) if rng.random() < 0.5 else data[other : other + length]
        refused += not decodes(data[:start] + piece + data[start + length :])
    assert refused > 2_500


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(3)
    assert not any(decodes(rng.bytes(int(rng.integers(0, 200)))) for _ in range(10_000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 5_000,
        b"\x81\xa1a" * 5_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgspec.msgpack.encode({"run_id": "x" * 1000}),
        msgspec.msgpack.encode(None),
        pickle.dumps({"role": "base"}),
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    assert not decodes(data)


def test_text_that_is_not_utf8_is_refused() -> None:
    data = encode_group(msgspec.structs.replace(make_group(), run_id="runrun"), size_cap=SIZE_CAP)
    assert not decodes(data.replace(b"runrun", b"run\xff\xfe\xfd"))
