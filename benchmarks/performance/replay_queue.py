"""The replay queue against the plain Redis commands that it is built on.

    .venv/bin/python benchmarks/performance/replay_queue.py

Both use the embedded Redis as a run configures it, the same clients and the same batches. Groups are put `--at-once` at
a time, as many as finish together in a generator (asyncio client; the plain way sends them as one pipeline). They are
read in pages, kept until all are read, and acknowledged in one call, as a checkpoint does (blocking client). The plain
way is XADD, XREADGROUP and XACK, without leases, deduplication, capacity, byte accounting or fencing. The two
alternate; each ratio is of the times of one round, and the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

from benchmarks.performance.shared import keep  # noqa: E402
from services.redis.access import RedisAccess  # noqa: E402
from services.redis.embedded import EmbeddedRedis  # noqa: E402
from services.replay.actuators import ActuatorPublisher  # noqa: E402
from services.replay.consumer import ReplayConsumer  # noqa: E402
from services.replay.producer import Finished, ReplayProducer  # noqa: E402
from services.replay.stream_reader import ENTRIES_PER_ROUND_TRIP  # noqa: E402
from trainer.config import RedisConfig  # noqa: E402

RUN = "benchmark"
PLAIN, GROUP = "plain-stream", "plain-learner"
OPERATIONS = ("put", "get", "acknowledge")
Times = dict[str, float]


def main() -> None:
    """Measure, print the table, write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--groups", type=int, default=512, help="groups per round")
    parser.add_argument("--bytes", type=int, default=32_768, help="bytes per group")
    parser.add_argument("--at-once", type=int, default=4, help="groups put in one round trip")
    parser.add_argument("--step-groups", type=int, default=64, help="groups per learner step, of both roles")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scope-queue-") as folder:
        state = Path(folder)
        with EmbeddedRedis(RedisConfig(), data_dir=state / "data", state_dir=state / "state") as server:
            rounds = asyncio.run(measure(server.access, options))
    document = summary(rounds[1:], options)
    table(document)
    keep("performance-queue", document)


async def measure(access: RedisAccess, options: argparse.Namespace) -> list[dict[str, Times]]:
    """Seconds of each operation of both ways in every round; the first round is a warm-up."""
    data = [os.urandom(options.bytes) for _ in range(16)]
    redis, blocking = access.asyncio(), access.sync()
    producer = ReplayProducer(redis, RUN, capacity=2 * options.groups)
    consumer = ReplayConsumer(blocking, RUN, max_deliveries=3)
    ActuatorPublisher(blocking, RUN, consumer.open()).set_actuators(1.0, 0.0, 0, 1)
    blocking.xgroup_create(PLAIN, GROUP, mkstream=True)

    async def put_ours(batch: range) -> None:
        groups = [Finished(i, 0, data[i % 16]) for i in batch]
        assert await producer.add("base", "generator", groups) == ["added"] * len(groups)

    async def put_plain(batch: range) -> None:
        pipeline = redis.pipeline(transaction=False)
        for i in batch:
            pipeline.xadd(PLAIN, {"group": f"base:{i}:0", "producer": "generator", "data": data[i % 16]})
        await pipeline.execute()

    def get_ours() -> tuple[list[str], object]:
        entries = consumer.read(options.groups, 0)
        return [entry.entry_id for entry in entries], entries

    def get_plain() -> tuple[list[str], object]:
        found: list[tuple[str, Any]] = []
        while len(found) < options.groups:
            reply: Any = blocking.xreadgroup(GROUP, "rank-0", {PLAIN: ">"}, count=ENTRIES_PER_ROUND_TRIP)
            found += reply[0][1]
        return [entry_id for entry_id, _ in found], found

    def acknowledge_plain(ids: list[str]) -> int:
        return blocking.xack(PLAIN, GROUP, *ids)

    ways = {
        "plain": (put_plain, get_plain, acknowledge_plain),
        "ours": (put_ours, get_ours, consumer.acknowledge),
    }
    rounds: list[dict[str, Times]] = []
    for done in range(options.rounds + 1):
        numbers = range(done * options.groups, (done + 1) * options.groups)
        lease = await producer.lease("base", "generator", numbers.stop, options.groups, 600)
        assert lease.ordinals == list(numbers)
        found: dict[str, Times] = {}
        for way in ("plain", "ours") if done % 2 else ("ours", "plain"):
            put, get, acknowledge = ways[way]
            marks = [time.perf_counter()]
            for first in range(0, len(numbers), options.at_once):
                await put(numbers[first : first + options.at_once])
            marks.append(time.perf_counter())
            ids, entries = get()
            marks.append(time.perf_counter())
            del entries
            marks.append(time.perf_counter())
            assert acknowledge(ids) == len(ids) == options.groups
            marks.append(time.perf_counter())
            put_seconds, get_seconds, _, acknowledge_seconds = (b - a for a, b in pairwise(marks))
            found[way] = dict(zip(OPERATIONS, (put_seconds, get_seconds, acknowledge_seconds), strict=True))
        rounds.append(found)
        consumer.trim()
        blocking.xtrim(PLAIN, maxlen=0, approximate=False)
    await redis.aclose()
    blocking.close()
    return rounds


def summary(rounds: list[dict[str, Times]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds."""
    ratios = {
        operation: [found["plain"][operation] / found["ours"][operation] for found in rounds]
        for operation in OPERATIONS
    }
    ratios["all"] = [sum(found["plain"].values()) / sum(found["ours"].values()) for found in rounds]
    microseconds = {
        way: {
            operation: 1e6 * statistics.median(found[way][operation] for found in rounds) / options.groups
            for operation in OPERATIONS
        }
        for way in ("plain", "ours")
    }
    return {
        "group_bytes": options.bytes,
        "groups_a_round": options.groups,
        "page": ENTRIES_PER_ROUND_TRIP,
        "at_once": options.at_once,
        "rounds": len(rounds),
        "microseconds_a_group": microseconds,
        "speed_over_plain": {
            name: {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
            for name, values in ratios.items()
        },
        "step_groups": options.step_groups,
        "milliseconds_a_step": 1e-3 * options.step_groups * sum(microseconds["ours"].values()),
    }


def table(document: dict[str, Any]) -> None:
    """Print the times and the ratios."""
    print(
        f"{document['rounds']} rounds of {document['groups_a_round']} groups of {document['group_bytes']:,} bytes"
    )
    print(f"{'':14}{'plain':>12}{'ours':>12}{'speed over plain':>24}")
    for name, ratio in document["speed_over_plain"].items():
        cells = "".join(
            f"{(sum(way.values()) if name == 'all' else way[name]):>9.1f} µs"
            for way in document["microseconds_a_group"].values()
        )
        print(f"{name:14}{cells}{ratio['median']:>9.2f} [{ratio['lowest']:.2f}, {ratio['highest']:.2f}]")
    step = f"{document['step_groups']} groups of a step: {document['milliseconds_a_step']:.1f} ms"
    print(f"{step} for put, get and acknowledge together")


if __name__ == "__main__":
    main()
