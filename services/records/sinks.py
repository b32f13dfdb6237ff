"""Destinations of step records: a file, Ray's metrics; and reading the file back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import msgspec

from services.records.jsonl import cut_incomplete_line, read_lines
from services.records.step_record import MAPS_OF_COUNTS, StepRecord, flatten


class Sink(Protocol):
    """A destination of step records."""

    def write(self, record: StepRecord) -> None:
        """Write one record."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


class JsonLines:
    """`steps.jsonl` in the run directory, one record per line, flushed after each; cuts off an incomplete last line."""

    def __init__(self, path: Path) -> None:
        cut_incomplete_line(path)
        self._file = path.open("ab")

    def write(self, record: StepRecord) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RayMetrics:
    """Gauges `scope_<name>` of `ray.util.metrics` (Prometheus: `ray_scope_<name>`) with the tags `run` and `key`.

    Ray cannot remove a series: one that a record lacks is set to 0 where it counts something, else to NaN.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._gauges: dict[str, Any] = {}
        self._series: set[str] = set()

    def write(self, record: StepRecord) -> None:
        from ray.util.metrics import Gauge

        values = flatten(msgspec.structs.asdict(record))
        absent = {
            name: 0.0 if name.partition("/")[0] in MAPS_OF_COUNTS else math.nan
            for name in self._series - values.keys()
        }
        self._series |= values.keys()
        for name, value in (values | absent).items():
            field, _, key = name.partition("/")
            if field not in self._gauges:
                description = f"scope step record: {field}"
                self._gauges[field] = Gauge(f"scope_{field}", description, tag_keys=("run", "key"))
            self._gauges[field].set(value, tags={"run": self._run_id, "key": key})

    def close(self) -> None:
        self._gauges.clear()


def read_records(path: Path, *, surviving: bool = True) -> list[StepRecord]:
    """Records of a `steps.jsonl`; with `surviving`, without rolled-back steps and those of replaced learners.

    A record of a newer lineage rolls back all earlier records of its step and later ones; one of an older lineage than
    its predecessor is ignored. An incomplete last line is left out.
    """
    if not path.exists():
        return []
    records: list[StepRecord] = []
    for line in read_lines(path):
        record = _decode(line)
        if surviving and records and records[-1].lineage > record.lineage:
            continue
        while surviving and records and records[-1].step >= record.step:
            records.pop()
        records.append(record)
    return records


_NUMBERS = tuple(field.name for field in msgspec.structs.fields(StepRecord) if field.type is float)


def _decode(line: bytes) -> StepRecord:
    document = msgspec.json.decode(line)
    # JSON has no NaN: numbers that are not finite are written as null.
    missing = {name: math.nan for name in _NUMBERS if document.get(name) is None and name in document}
    return msgspec.convert(document | missing, StepRecord, str_keys=True)
