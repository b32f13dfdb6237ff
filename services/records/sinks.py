"""Where step records go: a file, Ray's metrics; and the file read back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import msgspec

from services.records.jsonl import cut_incomplete_line, read_lines
from services.records.step_record import StepRecord, flatten


class Sink(Protocol):
    """Where step records go."""

    def write(self, record: StepRecord) -> None:
        """Take one record."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


class JsonLines:
    """`steps.jsonl` in the run directory, one record a line, flushed at once.

    A line that an earlier incarnation could not finish is cut off.
    """

    def __init__(self, path: Path) -> None:
        cut_incomplete_line(path)
        self._file = path.open("ab")

    def write(self, record: StepRecord) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RayMetrics:
    """Gauges `scope_<name>` in `ray.util.metrics` (Prometheus: `ray_scope_<name>`), tagged with run and key."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._gauges: dict[str, Any] = {}

    def write(self, record: StepRecord) -> None:
        from ray.util.metrics import Gauge

        for name, value in flatten(msgspec.structs.asdict(record)).items():
            field, _, key = name.partition("/")
            if field not in self._gauges:
                description = f"scope step record: {field}"
                self._gauges[field] = Gauge(f"scope_{field}", description, tag_keys=("run", "key"))
            self._gauges[field].set(value, tags={"run": self._run_id, "key": key})

    def close(self) -> None:
        self._gauges.clear()


def read_records(path: Path, *, surviving: bool = True) -> list[StepRecord]:
    """Records of a `steps.jsonl`; with `surviving`, only of the lineage that led to the newest one.

    A rollback takes back every record from its step on; a learner that was replaced takes back nothing. An unfinished
    last line is left out.
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
    # JSON has no NaN: a number that was not finite was written as null.
    missing = {name: math.nan for name in _NUMBERS if document.get(name) is None and name in document}
    return msgspec.convert(document | missing, StepRecord, str_keys=True)
