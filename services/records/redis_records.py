"""Step records in Redis, for readers without the run directory: the control plane's curves and events.

A hash holds the records of the surviving lineage by step; a learner that resumes from a checkpoint first deletes the
records of the steps that it repeats. Each record, and each change of the run's phase, also adds an entry to the stream
of events, which keeps the newest `EVENTS_KEPT`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from redis import Redis

from services.records.step_record import MAPS_OF_COUNTS, StepRecord
from services.redis.fencing import call_fenced
from services.redis.keys import RunKeys
from services.redis.query import Read
from services.redis.scripts import script_text
from services.run.state import EVENTS_KEPT

MOST_READ = 4096
"""records that one call reads; a longer range is sampled at equal intervals"""


class RedisRecords:
    """The sink of the learner incarnation `epoch`, which starts at `first_step`.

    Creating it and writing raise FencedError when `epoch` is not that of the newest incarnation.
    """

    def __init__(self, redis: Redis, run_id: str, epoch: int, first_step: int) -> None:
        self._redis, self._keys, self._epoch = redis, RunKeys(run_id), epoch
        self._call("begin", [self._keys.status], first_step)

    def write(self, record: StepRecord) -> None:
        """Store one record."""
        self._call("write", [self._keys.events], record.step, _document(record), EVENTS_KEPT)

    def close(self) -> None:
        """Nothing to do: records are not buffered."""

    def _call(self, name: str, further: Sequence[str], *arguments: Any) -> None:
        script = self._redis.register_script(script_text("services.records", name))
        call_fenced(script, self._keys.fence, self._epoch, [self._keys.records, *further], arguments)


def load_records(redis: Redis, run_id: str, records: Sequence[StepRecord]) -> None:
    """Store the records of a run that has ended, without events."""
    key = RunKeys(run_id).records
    for first in range(0, len(records), MOST_READ):
        some = records[first : first + MOST_READ]
        redis.hset(key, mapping={str(record.step): _document(record) for record in some})


class Extent(NamedTuple):
    """The extent of a run's records; equal extents mean equal records."""

    newest: int
    """the newest recorded step; -1 without one"""
    epoch: int
    """epoch of the learner incarnation that writes the records"""
    count: int


class Series(NamedTuple):
    """Columns of equal length, one row for each bucket of steps."""

    first: int
    last: int
    """steps that the rows cover"""
    steps: list[int]
    """last step of each row's bucket"""
    values: dict[str, list[float | None]]
    """means over the bucket by field; None where no step of it has a number"""
    lowest: dict[str, list[float | None]]
    highest: dict[str, list[float | None]]
    """smallest and largest value in the bucket, like `values`; empty unless asked for"""


def read_series(
    redis: Redis,
    run_id: str,
    extent: Extent,
    fields: Iterable[str],
    first: int,
    last: int | None,
    rows: int,
    extremes: bool = False,
) -> Series:
    """Fields of the steps first..last (None: the newest), averaged to at most `rows` buckets of equal size.

    fields: named as by `step_record.flatten`. Of a range of more than `MOST_READ` steps, `MOST_READ` are read.
    extremes: also the smallest and the largest value in each bucket.
    """
    key, newest, fields = RunKeys(run_id).records, extent.newest, tuple(fields)
    last = newest if last is None else min(last, newest)
    if last < first:
        empty: dict[str, list[float | None]] = {name: [] for name in fields}
        return Series(first, last, [], empty, *((empty, empty) if extremes else ({}, {})))
    wanted = np.unique(np.linspace(first, last, min(last - first + 1, MOST_READ)).round().astype(int))
    stored = cast("list[bytes | None]", redis.hmget(key, [str(step) for step in wanted]))
    found = [
        (int(step), msgspec.json.decode(text))
        for step, text in zip(wanted, stored, strict=True)
        if text is not None
    ]
    parts = [
        part for part in np.array_split(np.arange(len(found)), min(rows, max(len(found), 1))) if len(part)
    ]
    known = {name: [_known(_value(found[i][1], name) for i in part) for part in parts] for name in fields}

    def reduced(reduce: Callable[[Sequence[float]], float]) -> dict[str, list[float | None]]:
        return {
            name: [reduce(values) if values else None for values in column] for name, column in known.items()
        }

    lowest, highest = (reduced(min), reduced(max)) if extremes else ({}, {})
    return Series(first, last, [found[part[-1]][0] for part in parts], reduced(_mean), lowest, highest)


def extent_read(run_id: str) -> Read[Extent]:
    """The extent of a run's records, as a `Read`."""
    keys = RunKeys(run_id)
    return Read(
        (("HMGET", keys.status, "step", "records_of"), ("HLEN", keys.records)),
        lambda replies: Extent(int(replies[0][0] or 0) - 1, int(replies[0][1] or 0), int(replies[1])),
    )


def read_record(redis: Redis, run_id: str, step: int) -> Mapping[str, Any] | None:
    """The record of one step, or None."""
    text = cast("bytes | None", redis.hget(RunKeys(run_id).records, str(step)))
    return None if text is None else msgspec.json.decode(text)


def read_span(redis: Redis, run_id: str, first: int, last: int) -> list[Mapping[str, Any]]:
    """The records of the steps first..last, without those that are not there."""
    if last < first:
        return []
    stored = cast(
        "list[bytes | None]", redis.hmget(RunKeys(run_id).records, list(map(str, range(first, last + 1))))
    )
    return [msgspec.json.decode(text) for text in stored if text is not None]


def _document(record: StepRecord) -> bytes:
    # A number that is not finite becomes null, so that every JSON parser reads the record.
    return msgspec.json.encode(msgspec.to_builtins(record, str_keys=True))


def _value(record: Mapping[str, Any], name: str) -> float | None:
    """One field as by `flatten`; a missing key in a map of counts is 0."""
    field, _, key = name.partition("/")
    value = record.get(field)
    if isinstance(value, Mapping):
        value = value.get(key, 0 if field in MAPS_OF_COUNTS else None) if key else None
    elif key:
        value = None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
