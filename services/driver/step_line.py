"""One line of the terminal for each learner step, in columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class _Column(NamedTuple):
    name: str
    width: int
    text: Callable[[Mapping[str, Any]], str]


def heading(of: int, width: int | None = None) -> str:
    """The names of the columns. of: learner steps of the run; width: of the terminal, in characters."""
    return " ".join(["step".rjust(_step_width(of)), *(c.name.rjust(c.width) for c in _columns(of, width))])


def step_line(record: Mapping[str, Any], of: int, width: int | None = None) -> str:
    """The line of a step record from Redis. A terminal that is too narrow shows fewer columns."""
    step = f"{record['step'] + 1}/{of}".rjust(_step_width(of))
    return " ".join([step, *(c.text(record).rjust(c.width) for c in _columns(of, width))])


def number(value: float | None, digits: int = 3) -> str:
    """A number as text, never with a sign before zero; `-` for None."""
    return "-" if value is None else f"{value:z.{digits}f}"


def _columns(of: int, width: int | None) -> list[_Column]:
    """The columns that fit."""
    fitting, left = [], None if width is None else width - _step_width(of)
    for column in _COLUMNS:
        if left is not None and (left := left - column.width - 1) < 0:
            break
        fitting.append(column)
    return fitting


def _step_width(of: int) -> int:
    return max(7, 2 * len(str(of)) + 1)


def _field(name: str, digits: int) -> Callable[[Mapping[str, Any]], str]:
    return lambda record: number(record[name], digits)


def _mean_staleness(record: Mapping[str, Any]) -> str:
    rollouts = {int(staleness): count for staleness, count in record["staleness"].items()}
    total = sum(staleness * count for staleness, count in rollouts.items())
    return number(total / max(sum(rollouts.values()), 1), 1)


_COLUMNS = (
    _Column("entropy", 7, _field("entropy", 3)),
    _Column("target", 6, _field("entropy_target", 3)),
    _Column("T", 5, _field("temperature", 2)),
    _Column("alpha", 5, _field("alpha", 2)),
    _Column("reward", 6, _field("reward", 3)),
    _Column("pos", 4, lambda record: str(record["positives"])),
    _Column("lag", 4, _mean_staleness),
    _Column("s/step", 6, _field("step_seconds", 2)),
    _Column("wait", 6, _field("wait_seconds", 2)),
)
"""in the order of their importance. T: temperature of adaptive rollouts; pos: rewarded adaptive rollouts; lag: mean
staleness in learner steps"""
