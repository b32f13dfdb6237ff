"""Step records in Redis, for readers without access to the run directory: the control plane's metrics and events.

The records of the surviving lineage are a hash by step; a learner that resumes from a checkpoint first deletes the
steps that it will do again. Each record and each change of the run's phase also adds an entry to the stream of events,
which keeps about the newest `EVENTS_KEPT`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from redis import Redis

from services.records.step_record import MAPS_OF_COUNTS, StepRecord
from services.redis.fencing import FencedError
from services.redis.keys import RunKeys
from services.redis.query import Read, as_text, fetch
from services.run.state import EVENTS_KEPT

MOST_READ = 4096
"""most records that one call reads; from a longer range, that many at equal distances"""

_BEGIN = """
local epoch = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) ~= epoch then return {'fenced', epoch} end
redis.call('HSET', KEYS[3], 'records_of', epoch)
local step = tonumber(ARGV[2])
while redis.call('HDEL', KEYS[2], step) == 1 do step = step + 1 end
return {'done'}
"""
_WRITE = f"""
local epoch = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) ~= epoch then return {{'fenced', epoch}} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'event', 'step', 'step', ARGV[2])
return {{'done'}}
"""


class RedisRecords:
    """The sink of one learner incarnation, which begins at `first_step`. Raises FencedError once it is replaced."""

    def __init__(self, redis: Redis, run_id: str, epoch: int, first_step: int) -> None:
        self._redis, self._keys, self._epoch = redis, RunKeys(run_id), epoch
        self._call(_BEGIN, [self._keys.status], first_step)

    def write(self, record: StepRecord) -> None:
        """Write one record."""
        # Numbers that are not finite become null, so that any JSON parser can read the text.
        document = msgspec.json.encode(msgspec.to_builtins(record, str_keys=True))
        self._call(_WRITE, [self._keys.events], record.step, document)

    def close(self) -> None:
        """Nothing is buffered."""

    def _call(self, script: str, further: Sequence[str], *arguments: Any) -> None:
        names = [self._keys.fence, self._keys.records, *further]
        reply = self._redis.eval(script, len(names), *names, self._epoch, *arguments)
        outcome, *values = cast("list[Any]", reply)
        if as_text(outcome) == "fenced":
            raise FencedError(epoch=self._epoch, current=int(values[0]))


class Extent(NamedTuple):
    """The extent of a run's records. While it is unchanged, so are the records."""

    newest: int
    """the newest recorded step; -1 without one"""
    epoch: int
    """of the learner incarnation that writes the records"""
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


def read_series(
    redis: Redis, run_id: str, fields: Iterable[str], first: int, last: int | None, rows: int
) -> Series:
    """Fields of the steps first..last (None: the newest), averaged to at most `rows` buckets of equal size.

    fields: named as by `step_record.flatten`. Of a range of more than `MOST_READ` steps, `MOST_READ` are read.
    """
    return series_of(redis, run_id, fetch(redis, extent_read(run_id)), fields, first, last, rows)


def series_of(
    redis: Redis,
    run_id: str,
    extent: Extent,
    fields: Iterable[str],
    first: int,
    last: int | None,
    rows: int,
) -> Series:
    """`read_series` for a known extent."""
    key, newest, fields = RunKeys(run_id).records, extent.newest, tuple(fields)
    last = newest if last is None else min(last, newest)
    if last < first:
        return Series(first, last, [], {name: [] for name in fields})
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
    return Series(
        first,
        last,
        [found[part[-1]][0] for part in parts],
        {name: [_mean([_value(found[i][1], name) for i in part]) for part in parts] for name in fields},
    )


def extent_read(run_id: str) -> Read[Extent]:
    """The read of the extent of a run's records."""
    keys = RunKeys(run_id)
    return Read(
        (("HMGET", keys.status, "step", "records_of"), ("HLEN", keys.records)),
        lambda replies: Extent(int(replies[0][0] or 0) - 1, int(replies[0][1] or 0), int(replies[1])),
    )


def read_record(redis: Redis, run_id: str, step: int) -> Mapping[str, Any] | None:
    """The record of one step, or None."""
    text = cast("bytes | None", redis.hget(RunKeys(run_id).records, str(step)))
    return None if text is None else msgspec.json.decode(text)


def _value(record: Mapping[str, Any], name: str) -> float | None:
    """One field as by `flatten`; a missing key in a map of counts is 0."""
    field, _, key = name.partition("/")
    value = record.get(field)
    if isinstance(value, Mapping):
        value = value.get(key, 0 if field in MAPS_OF_COUNTS else None) if key else None
    elif key:
        value = None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
