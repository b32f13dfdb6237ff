"""Fuzz the trajectory codec with hostile entries: each must give a valid group or a `TrajectoryError`.

    .venv/bin/python benchmarks/codec_fuzz.py --cases 100000 --seed 1

Prints a table and writes it to benchmarks/results/codec-fuzz.json. The memory of every fiftieth case is measured.
Exits with status 1 if a case gave anything else, or took more memory than the size cap.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from trainer.rollouts.trajectory import (
    SCHEMA_VERSION,
    Group,
    Trajectory,
    TrajectoryError,
    VersionSpan,
    decode_group,
    encode_group,
)

RESULTS = Path(__file__).parent / "results" / "codec-fuzz.json"
SIZE_CAP = 1 << 20
"""bytes"""
MEASURED = 50
"""memory is measured in one of so many cases; coprime to the number of kinds, so that every kind is measured"""
DEEPEST = 20_000
Rng = np.random.Generator
Tree = dict[str, Any]


class Case(NamedTuple):
    """One hostile entry."""

    kind: str
    data: bytes


@dataclass
class Tally:
    """Results of the cases of one kind."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    wrong: int = 0
    """cases that gave neither a valid group nor a `TrajectoryError`"""
    peak_bytes: int = 0
    """peak memory of decoding, over the measured cases"""


@dataclass
class Report:
    """Tallies by kind, and the first wrong entry of each error message."""

    kinds: dict[str, Tally] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """error message → entry in hexadecimal"""


def sample_group(rng: Rng) -> Group:
    """A valid group of random size."""
    rollouts = [_rollout(rng, index, int(rng.integers(1, 40))) for index in range(int(rng.integers(1, 4)))]
    ordinal = int(rng.integers(0, 1000))
    return Group(
        run_id="run",
        task="countdown",
        problem_id=f"p-{ordinal}",
        role="base" if rng.random() < 0.5 else "adaptive",
        ordinal=ordinal,
        sampling_temperature=float(rng.uniform(0.1, 2)),
        entropy_target_generation=1,
        prompt_tokens=rng.integers(0, 500, 8).astype("<i4").tobytes(),
        producer_id="base-generator-0",
        producer_sequence=3,
        started_at=1.0e9,
        finished_at=1.0e9 + 1,
        trajectories=rollouts,
    )


def _rollout(rng: Rng, index: int, length: int) -> Trajectory:
    return Trajectory(
        group_index=index,
        response_tokens=rng.integers(0, 500, length).astype("<i4").tobytes(),
        behaviour_logprobs=(-rng.random(length)).astype("<f4").tobytes(),
        loss_mask=np.ones(length, "u1").tobytes(),
        logprob_temperature=1.0,
        versions=[VersionSpan(0, 1, 7)],
        reward=1.0,
        reward_components={"format": 1.0, "value": 0.5},
        verdict="correct",
        finish_reason="stop",
    )


def truncated(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Cut off at the end, at the beginning, or both."""
    first, last = sorted(int(n) for n in rng.integers(0, len(data), 2))
    return (data[:last], data[first:], data[first:last])[int(rng.integers(3))]


def flipped(rng: Rng, data: bytes, other: bytes) -> bytes:
    """One to eight bits inverted."""
    damaged = np.frombuffer(data, np.uint8).copy()
    for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
        damaged[place] ^= np.uint8(1 << int(rng.integers(8)))
    return damaged.tobytes()


def spliced(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A piece replaced, inserted or deleted; inserted bytes come from this entry, another entry or noise."""
    start, length, source = (int(n) for n in rng.integers(0, (len(data), 32, 3)))
    at = int(rng.integers(len(other)))
    piece = (data[at : at + length], other[at : at + length], rng.bytes(length))[source]
    gone = int(rng.integers(0, 32)) if rng.random() < 0.7 else length
    return data[:start] + piece + data[start + gone :]


def inflated(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A value whose declared length exceeds the bytes that follow it."""
    length = int(rng.choice([2**32 - 1, 2**31, 2**31 - 1, 2**24, 2**16, len(data), len(data) + 1]))
    header = bytes([int(rng.choice([0xC6, 0xC9, 0xDB, 0xDD, 0xDF]))]) + struct.pack(">I", length)
    return _put_in(rng, data, header + rng.bytes(int(rng.integers(0, 8))))


def other_version(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Another schema version, or none."""
    tree: Tree = msgspec.msgpack.decode(data)
    version = (0, SCHEMA_VERSION + 1, 99, -1, 2**63, "1", None, 1.5, [1])[int(rng.integers(9))]
    tree["schema_version"] = version
    if rng.random() < 0.1:
        del tree["schema_version"]
    return msgspec.msgpack.encode(tree)


def nested(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Arrays or maps nested up to twenty thousand deep."""
    depth = int(2 ** rng.uniform(0, np.log2(DEEPEST)))
    unit = (b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xa0")[int(rng.integers(4))]
    bomb = unit * depth + b"\xc0"
    return bomb if rng.random() < 0.1 else _put_in(rng, data, bomb)


_SECONDS = struct.pack(">Iq", 10, 2**62)
_VALUES = [
    *(b"\xcb" + struct.pack(">d", x) for x in (np.nan, np.inf, -np.inf, -1.0, 1e308, 5e-324, -0.0)),
    *(b"\xca" + struct.pack(">f", x) for x in (np.nan, np.inf, -np.inf, -1.0)),
    *(b"\xcf" + struct.pack(">Q", n) for n in (2**64 - 1, 2**63, 2**63 - 1)),
    *(b"\xd3" + struct.pack(">q", n) for n in (-(2**63), -1, 0)),
    *(b"\xff", b"\xe0", b"\xd0\x80", b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\x80", b"\x90", b"\xa0"),
    *(b"\xa4\xff\xfe\xfd\xfc", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xa1\x80", b"\xd9\x03a\xf0\x9f"),
    *(b"\xd4\x01\x00", b"\xd6\xff\xff\xff\xff\xff", b"\xd7\xff" + b"\xff" * 8, b"\xd8\x05" + b"\0" * 16),
    *(b"\xc7\x0c\xff" + _SECONDS, b"\xc7\x00\x80", b"\xc8\xff\xff\x01", b"\xc4\x00", b"\xc5\x00\x04abcd"),
]


def hostile_value(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A value of valid or invalid msgpack, such as NaN, an extension, text that is not UTF-8, or a negative number."""
    return _put_in(rng, data, _VALUES[int(rng.integers(len(_VALUES)))])


def repeated_key(rng: Rng, data: bytes, other: bytes) -> bytes:
    """The group's map with one of its keys repeated, with the same or another value."""
    tree: Tree = msgspec.msgpack.decode(data)
    count = len(tree)
    # A map of up to 15 fields has its length in the first byte, a larger one in the two bytes after it.
    body = data[1:] if count < 16 else data[3:]
    key = list(tree)[int(rng.integers(count))]
    value = tree[key] if rng.random() < 0.5 else list(tree.values())[int(rng.integers(count))]
    extra = msgspec.msgpack.encode(key) + msgspec.msgpack.encode(value)
    times = int(rng.integers(1, 4))
    return b"\xde" + struct.pack(">H", count + times) + body + extra * times


def bad_arrays(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Buffers of the wrong length or contents."""
    tree: Tree = msgspec.msgpack.decode(data)
    rollout = tree["trajectories"][int(rng.integers(len(tree["trajectories"])))]
    name = ("response_tokens", "behaviour_logprobs", "loss_mask")[int(rng.integers(3))]
    noise = rng.bytes(len(rollout[name]) + int(rng.integers(-4, 5)) * int(rng.random() < 0.5))
    rollout[name] = noise if rng.random() < 0.5 else rollout[name][: int(rng.integers(len(rollout[name])))]
    return msgspec.msgpack.encode(tree)


Mutation = Callable[[Rng, bytes, bytes], bytes]
KINDS: dict[str, Mutation] = {
    "truncated": truncated,
    "bits flipped": flipped,
    "spliced": spliced,
    "length inflated": inflated,
    "other schema version": other_version,
    "deeply nested": nested,
    "hostile value": hostile_value,
    "repeated key": repeated_key,
    "bad array": bad_arrays,
}


def _put_in(rng: Rng, data: bytes, raw: bytes) -> bytes:
    """The entry with one value, at any depth, replaced by raw bytes; sometimes they go under a new key instead."""
    tree: Tree = msgspec.msgpack.decode(data)
    holder: Any = tree
    if rng.random() < 0.1:
        tree["unknown"] = msgspec.Raw(raw)
        return msgspec.msgpack.encode(tree)
    while True:
        names = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        name = names[int(rng.integers(len(names)))]
        inner = holder[name]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
            holder = inner
            continue
        holder[name] = msgspec.Raw(raw)
        return msgspec.msgpack.encode(tree)


def cases(count: int, seed: int) -> Iterator[Case]:
    """`count` hostile entries that cycle through the kinds; the same seed gives the same entries."""
    rng = np.random.default_rng(seed)
    names = list(KINDS)
    valid = [encode_group(sample_group(rng), size_cap=SIZE_CAP) for _ in range(64)]
    for number in range(count):
        data, other = (valid[int(at)] for at in rng.integers(0, len(valid), 2))
        kind = names[number % len(names)]
        yield Case(kind, KINDS[kind](rng, data, other))


def try_case(data: bytes) -> str | None:
    """Decode an entry. Returns None if it is accepted, and the error message if it is refused.

    Raises:
        AssertionError: an accepted group differs after a round trip; a number that is not finite also causes this.
        Exception: whatever else the codec raised.
    """
    try:
        group = decode_group(data, size_cap=SIZE_CAP)
    except TrajectoryError as error:
        return str(error)
    again = decode_group(encode_group(group, size_cap=SIZE_CAP), size_cap=SIZE_CAP)
    if again != group or group.schema_version != SCHEMA_VERSION:
        raise AssertionError("an accepted entry does not survive the round trip")
    return None


def fuzz(count: int, seed: int) -> Report:
    """Try every case, and measure the memory of one in `MEASURED`."""
    report = Report()
    for number, (kind, data) in enumerate(cases(count, seed)):
        tally = report.kinds.setdefault(kind, Tally())
        tally.cases += 1
        measured = number % MEASURED == 0
        if measured:
            tracemalloc.start()
        try:
            reason = try_case(data)
            tally.accepted += reason is None
            tally.refused += reason is not None
        except Exception as error:
            tally.wrong += 1
            report.failures.setdefault(repr(error)[:200], data.hex())
        if measured:
            tally.peak_bytes = max(tally.peak_bytes, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    return report


def main() -> int:
    """Fuzz, print the table and write the document. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Fuzz the trajectory codec with hostile entries")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    report = fuzz(options.cases, options.seed)
    seconds = time.perf_counter() - started
    print(f"{'kind':22}{'cases':>9}{'refused':>9}{'accepted':>9}{'wrong':>7}{'peak bytes':>12}")
    for kind, tally in report.kinds.items():
        print(
            f"{kind:22}{tally.cases:>9,}{tally.refused:>9,}{tally.accepted:>9,}{tally.wrong:>7,}"
            f"{tally.peak_bytes:>12,}"
        )
    print("".join(f"WRONG {message}\n      {entry}\n" for message, entry in report.failures.items()), end="")
    print(f"{options.cases:,} cases, seed {options.seed}, {seconds:.1f} s")
    document = {"cases": options.cases, "seed": options.seed, "seconds": round(seconds, 1), "cap": SIZE_CAP}
    document |= msgspec.to_builtins(report)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    too_much = any(tally.peak_bytes > SIZE_CAP for tally in report.kinds.values())
    return int(bool(report.failures) or too_much)


if __name__ == "__main__":
    sys.exit(main())
