"""A hundred thousand hostile entries give valid groups or `TrajectoryError`s, and none takes much memory."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.codec_fuzz import KINDS, SIZE_CAP, cases, fuzz
from tests.support.replay_harness import make_group
from trainer.roles import MOST_ROLLOUTS
from trainer.rollouts.trajectory import MOST_COMPONENTS, MOST_SPANS, TrajectoryError, decode_group

CASES = 100_000
STRUCTURE_BYTES = 12 << 20
"""upper bound on the memory of objects without buffers"""
TEXT_FACTOR = 6
"""one character outside Latin-1 makes Python store the whole text with four bytes per character"""


def test_hostile_entries_give_a_valid_group_or_a_trajectory_error() -> None:
    report = fuzz(CASES, seed=1)
    assert report.failures == {}
    assert sum(tally.cases for tally in report.kinds.values()) == CASES
    assert report.kinds.keys() == KINDS.keys()
    for kind, tally in report.kinds.items():
        assert tally.refused > 0, f"no case of {kind!r} is refused"
        assert 0 < tally.peak_bytes <= SIZE_CAP, kind
    assert report.kinds["length inflated"].accepted == 0
    assert report.kinds["other schema version"].accepted == 0
    assert report.kinds["deeply nested"].accepted == 0


def test_the_same_seed_gives_the_same_cases() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(b"".join(case.data for case in cases(500, seed))).hexdigest()

    assert digest(1) == digest(1) != digest(2)


def entries(**changes: Any) -> dict[str, Any]:
    """A valid group as plain data, with changes to its first rollout."""
    tree = msgspec.msgpack.decode(msgspec.msgpack.encode(make_group(tokens=MOST_SPANS)))
    rollout = tree["trajectories"][0] | changes
    return tree | {"trajectories": [rollout]}


def large_entries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a megabyte or more that would become far larger objects."""
    many = range(200_000)
    yield "components", entries(reward_components={f"{n:x}": 0 for n in many})
    yield "spans", entries(versions=[[n, 0, 0] for n in many])
    yield "rollouts", entries() | {"trajectories": [[]] * 1_000_000}
    yield "unknown", entries() | {"unknown": [[]] * 1_000_000}
    spans = [[n, 0, 0] for n in range(MOST_SPANS)]
    full = entries(versions=spans, reward_components={f"{n:x}": 0 for n in range(MOST_COMPONENTS)})
    yield "everything allowed", full | {"trajectories": full["trajectories"] * MOST_ROLLOUTS}
    yield "text", entries(verdict="a" * (1 << 20) + "\N{GRINNING FACE}")
    yield "buffer", entries(response_tokens=bytes(1 << 20))


@pytest.mark.parametrize(("name", "tree"), [pytest.param(n, t, id=n) for n, t in large_entries()])
def test_no_entry_takes_much_more_memory_than_its_bytes(name: str, tree: dict[str, Any]) -> None:
    data = msgspec.msgpack.encode(tree)
    tracemalloc.start()
    try:
        decode_group(data, size_cap=16 << 20)
        refused = False
    except TrajectoryError:
        refused = True
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused == (name != "everything allowed")
    if name in ("components", "spans", "rollouts", "unknown"):
        assert peak < 100_000, "the declared length must be refused before decoding"
    elif name == "text":
        assert peak < TEXT_FACTOR * len(data)
    else:
        assert peak < len(data) + STRUCTURE_BYTES


def test_an_entry_above_the_cap_is_not_looked_at() -> None:
    data = np.zeros(2 << 20, np.uint8).tobytes()
    tracemalloc.start()
    with pytest.raises(TrajectoryError, match="above the cap"):
        decode_group(data, size_cap=1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
