"""The record of one trial, `trial.json`, from which a search continues. Steps are learner steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from services.compare.run import differences, leaves
from services.tuning.plan import Search
from trainer.errors import ScopeError
from trainer.files import write_atomically

FORMAT: Final = 1
RECORD_FILE = "trial.json"
FAILURE_FILE = "failure.txt"
"""why the trial failed, written by its process"""
IDENTITY_FILE = "identity.json"


class TrialRecord(msgspec.Struct, kw_only=True):
    """A trial that was started."""

    format: Literal[1] = FORMAT
    number: int
    """1 for the first trial of the search"""
    values: dict[str, float]
    state: Literal["running", "finished", "stopped", "failed"]
    """stopped: early, as a poor trial. A trial that is not running when a search begins was interrupted."""
    reports: list[tuple[int, float]] = msgspec.field(default_factory=list)
    """(step, metric): of the first seed while it trains, at the last step the mean over seeds"""
    reason: str | None = None
    """why it failed"""

    @property
    def ended(self) -> bool:
        """Whether it has a result that is kept."""
        return self.state in ("finished", "stopped")


def write_record(search: Search, record: TrialRecord) -> None:
    """Write the record into the trial's directory."""
    directory = search.directory(record.values)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / RECORD_FILE, msgspec.json.encode(record) + b"\n")


def read_records(search: Search) -> list[TrialRecord]:
    """Read every trial's record, in order of their start. Raises ScopeError for a file that is not one."""
    found = [_read(path) for path in search.out.glob(f"trials/*/{RECORD_FILE}")]
    return sorted(found, key=lambda record: record.number)


def require_same_search(search: Search) -> None:
    """Note what the trials in its directory have in common. Raises ScopeError when `search` differs from it."""
    path = search.out / IDENTITY_FILE
    here = search.identity()
    if not path.exists():
        write_atomically(path, json.dumps(here, indent=1).encode() + b"\n")
        return
    there = json.loads(path.read_bytes())
    varied = {"seed", *(dimension.field for dimension in search.dimensions)}
    found = differences(leaves(there), leaves(here), in_process=search.source == "in-process")
    differing = [name for name in found if name not in varied]
    if differing:
        shown = ", ".join(
            f"{name} = {leaves(there).get(name)!r} there, {leaves(here).get(name)!r} now"
            for name in differing[:3]
        )
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ScopeError(
            f"The trials in {search.out} were made with other settings: {shown}{more}. Choose another --out, or move "
            "that directory aside."
        )


def next_number(records: Sequence[TrialRecord]) -> int:
    """Return the number of the next trial."""
    return max((record.number for record in records), default=0) + 1


def _read(path: Path) -> TrialRecord:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrialRecord)
    except msgspec.DecodeError as error:
        raise ScopeError(
            f"{path} is not the record of a trial of this version: {error}. Move its directory aside."
        ) from error
