"""What became of the rows of a data set: those that are skipped or left out, counted by why, with the first of each."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from trainer.errors import ScopeError
from trainer.tasks.datasets.records import BadRow

_SHOWN = 5
"""most faults that are told, those of the most rows"""
_PLACES = 3
"""most rows that are told of each"""


class _Fault(NamedTuple):
    count: int
    places: list[str]
    detail: str


class Tally:
    """Counts rows. refuse: whether a row that cannot be used is an error."""

    def __init__(self, where: str, *, refuse: bool) -> None:
        self._where, self._refuse = where, refuse
        self._skipped: Counter[str] = Counter()
        self._faults: dict[str, _Fault] = {}
        self._total = 0

    def row(self) -> None:
        """Count a row."""
        self._total += 1

    def skip(self, why: str) -> None:
        """Count a sound row that is not used."""
        self._skipped[why] += 1

    def bad(self, place: str, fault: BadRow) -> None:
        """Count a row that cannot be used. Raises ScopeError if such a row is refused."""
        if self._refuse:
            raise ScopeError(
                f"{self._where}, {place}: {_clause(fault.kind, fault.detail)}. Mend the row, or leave such rows out "
                "with task.dataset.bad_rows=left_out."
            )
        known = self._faults.get(fault.kind, _Fault(0, [], fault.detail))
        places = [*known.places, place] if known.count < _PLACES else known.places
        self._faults[fault.kind] = _Fault(known.count + 1, places, known.detail)

    def sentence(self) -> str:
        """What became of the rows that are not used; empty if all are."""
        parts = [f"{count:,} {why}" for why, count in sorted(self._skipped.items())]
        told = [f"of {self._total:,} rows {', '.join(parts)} are skipped"] if parts else []
        if self._faults:
            bad = sum(fault.count for fault in self._faults.values())
            told.append(f"{bad:,} of {self._total:,} rows left out{self._reasons()}")
        return "; ".join(told)

    def _reasons(self) -> str:
        ordered = sorted(self._faults.items(), key=lambda item: -item[1].count)
        told = [f"because {kind} ({_places(fault)})" for kind, fault in ordered[:_SHOWN]]
        if len(ordered) == 1:
            return f" {told[0]}"
        counted = [f"{fault.count:,} {why}" for why, (_, fault) in zip(told, ordered, strict=False)]
        if len(ordered) > _SHOWN:
            counted.append(f"{sum(fault.count for _, fault in ordered[_SHOWN:]):,} for other reasons")
        return f": {'; '.join(counted)}"


def _places(fault: _Fault) -> str:
    unit = fault.places[0].partition(" ")[0]
    numbers = ", ".join(place.partition(" ")[2] for place in fault.places)
    if fault.count == 1:
        return _clause(f"{unit} {numbers}", fault.detail)
    more = ", …" if fault.count > len(fault.places) else ""
    return f"{unit}s {numbers}{more}" + (f"; the first: {fault.detail}" if fault.detail else "")


def _clause(words: str, detail: str) -> str:
    return f"{words}: {detail}" if detail else words
