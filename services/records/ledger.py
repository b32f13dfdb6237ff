"""The ledger: which groups generators offered to the queue, and which groups each learner step applied.

It is the evidence that no group is lost or applied twice, and of what a policy was trained on. The files are in the run
directory's `ledger/`, one JSON line per event:

- `applied-<lineage>.jsonl`, always, by the learner: where it begins, then each step, before the step has any other
  effect. Each incarnation has its own file, so a suspended one that resumes cannot write into its successor's.
- `<generator id>.jsonl`, with `pipeline.ledger`, by each generator.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from services.records.jsonl import cut_incomplete_line, read_lines

FOLDER = "ledger"


class Began(msgspec.Struct, frozen=True, tag="began", tag_field="event"):
    """A lineage begins at learner step `step`; steps of other lineages from there on are rolled back."""

    lineage: int
    step: int


class Applied(msgspec.Struct, frozen=True, tag="applied", tag_field="event"):
    """One learner step."""

    lineage: int
    step: int
    groups: list[str]
    """group ids, `role:ordinal:attempt`"""


class Offered(msgspec.Struct, frozen=True):
    """One group of a generator: `offered` before it is sent to the queue, then the queue's answer."""

    group: str
    outcome: Literal["offered", "added", "duplicate"]


Event = TypeVar("Event")


class Ledger:
    """Appends to one file; an event has been passed to the operating system when `append` returns.

    An incomplete last line in the file is cut off first. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_incomplete_line(path)
        self._file = path.open("ab", buffering=0)

    def append(self, event: Began | Applied | Offered) -> None:
        """Write one event."""
        self._file.write(msgspec.json.encode(event) + b"\n")

    def sync(self) -> None:
        """Return when all events would survive a power failure (fsync)."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(run_dir: Path) -> list[Began | Applied]:
    """Events of every learner by lineage, including rolled-back ones; see `surviving`."""
    files = (run_dir / FOLDER).glob("applied-*.jsonl")
    return [
        event
        for file in sorted(files, key=_lineage_of)
        for event in _decoded(file, msgspec.json.Decoder(Began | Applied))
    ]


def applied_file(run_dir: Path, lineage: int) -> Path:
    """The file of one lineage's learner."""
    return run_dir / FOLDER / f"applied-{lineage}.jsonl"


def read_offered(run_dir: Path) -> list[Offered]:
    """Every event of every generator, in order for each generator."""
    files = sorted((run_dir / FOLDER).glob("*-generator-*.jsonl"))
    return [event for file in files for event in _decoded(file, msgspec.json.Decoder(Offered))]


def surviving(history: Sequence[Began | Applied]) -> list[Applied]:
    """The steps that led to the newest policy, without rolled-back ones."""
    kept: list[Applied] = []
    for event in history:
        while kept and kept[-1].step >= event.step:
            kept.pop()
        if isinstance(event, Applied):
            kept.append(event)
    return kept


def _lineage_of(path: Path) -> int:
    return int(path.stem.removeprefix("applied-"))


def _decoded(path: Path, decoder: msgspec.json.Decoder[Event]) -> list[Event]:
    return [decoder.decode(line) for line in read_lines(path)]
