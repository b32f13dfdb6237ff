"""The ledger: which groups generators offered to the queue, and which of them each learner step applied.

One JSON line an event, in the run directory's `ledger/`: `applied-<lineage>.jsonl` by the learner, always, where it
begins and then each step before anything follows from it, each incarnation in a file of its own, so that one that was
frozen and thaws writes into no other's; with `pipeline.ledger`, `<generator id>.jsonl` by each generator. It is what
an audit of the training data, and the proof that no group was lost or used twice, are made from.
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
    """A lineage begins at learner step `step`, and takes back what others did from there on."""

    lineage: int
    step: int


class Applied(msgspec.Struct, frozen=True, tag="applied", tag_field="event"):
    """One learner step."""

    lineage: int
    step: int
    groups: list[str]
    """group ids, `role:ordinal:attempt`"""


class Offered(msgspec.Struct, frozen=True):
    """One group of a generator: first as it is offered to the queue, then with the queue's answer."""

    group: str
    outcome: Literal["offered", "added", "duplicate"]


Event = TypeVar("Event")


class Ledger:
    """Appends to one file; each event is with the operating system when `append` returns.

    A line that an earlier incarnation could not finish is cut off. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_incomplete_line(path)
        self._file = path.open("ab", buffering=0)

    def append(self, event: Began | Applied | Offered) -> None:
        """Write one event."""
        self._file.write(msgspec.json.encode(event) + b"\n")

    def sync(self) -> None:
        """Return once everything appended would survive a power failure."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(run_dir: Path) -> list[Began | Applied]:
    """What every learner did, by lineage, dead ones included; see `surviving`."""
    files = (run_dir / FOLDER).glob("applied-*.jsonl")
    return [
        event
        for file in sorted(files, key=_lineage_of)
        for event in _decoded(file, msgspec.json.Decoder(Began | Applied))
    ]


def applied_file(run_dir: Path, lineage: int) -> Path:
    """Where the learner of a lineage writes."""
    return run_dir / FOLDER / f"applied-{lineage}.jsonl"


def read_offered(run_dir: Path) -> list[Offered]:
    """Every event of every generator, each generator's in order."""
    files = sorted((run_dir / FOLDER).glob("*-generator-*.jsonl"))
    return [event for file in files for event in _decoded(file, msgspec.json.Decoder(Offered))]


def surviving(history: Sequence[Began | Applied]) -> list[Applied]:
    """The steps that the newest policy is made of."""
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
