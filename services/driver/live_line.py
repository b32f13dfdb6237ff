"""The live line: phase, progress, time left, and the newest step's numbers, fitted to the terminal's width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.driver.step_line import number
from services.driver.time_left import clock
from services.records.alarms import limit_of
from services.run.phases import WORDS, phase_text

GAP = 2
"""spaces between the parts of a line"""
SHORTEST_BAR, LONGEST_BAR = 10, 30


@dataclass(frozen=True)
class Moment:
    """What the live line shows at one moment."""

    phase: str
    detail: str
    lasted: float
    """seconds since the phase began"""
    done: int = 0
    of: int = 0
    left: float | None = None
    """seconds until the end of the run; None: unknown"""
    record: Mapping[str, Any] | None = None
    """the newest step's"""


def live_line(moment: Moment, width: int) -> RenderableType:
    """One line where everything fits into `width` characters, else two; the least important parts are left out."""
    if moment.record is None:
        return _row([_phase(moment, "cyan")])
    progress, numbers = _progress(moment), _numbers(moment.record)
    bar = width - _length([*progress, *numbers]) - GAP
    if bar >= SHORTEST_BAR:
        return _row([progress[0], _bar(moment, bar), *progress[1:], *numbers])
    progress = _fitting(progress, width)
    bar = width - _length(progress) - GAP
    first = [progress[0], _bar(moment, bar), *progress[1:]] if bar >= SHORTEST_BAR else progress
    return Group(_row(first), _row(_fitting(numbers, width)))


def _progress(moment: Moment) -> list[Text]:
    phase = Text(WORDS["running"], "green") if moment.phase == "running" else _phase(moment, "yellow")
    parts = [phase, Text(f"{moment.done}/{moment.of}")]
    if moment.phase == "running" and moment.left is not None:
        parts.append(Text(f"{clock(moment.left)} left"))
    return parts


def _phase(moment: Moment, colour: str) -> Text:
    return Text.assemble((phase_text(moment.phase, moment.detail), colour), f" {clock(moment.lasted)}")


def _numbers(record: Mapping[str, Any]) -> list[Text]:
    target = record["entropy_target"]
    aim = "" if target is None else f", target {number(target)}"
    parts = [Text(f"entropy {number(record['entropy'])}{aim}")]
    if limit_of(record) is not None:
        parts.append(Text("at the limit", "yellow"))
    parts.append(Text(f"reward {number(record['reward'])}"))
    if target is not None:
        parts.append(Text(f"T {number(record['temperature'], 2)}"))
        parts.append(Text(f"alpha {number(record['alpha'], 2)}"))
    return parts


def _bar(moment: Moment, width: int) -> ProgressBar:
    length = min(width, LONGEST_BAR)
    return ProgressBar(max(moment.of, 1), moment.done, length, complete_style="green", finished_style="green")


def _fitting(parts: list[Text], width: int) -> list[Text]:
    """As many of the first parts as fit; the first one always."""
    while len(parts) > 1 and _length(parts) > width:
        parts = parts[:-1]
    return parts


def _length(parts: list[Text]) -> int:
    return sum(part.cell_len for part in parts) + GAP * (len(parts) - 1)


def _row(parts: list[Any]) -> Table:
    row = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for _ in parts:
        row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(*parts)
    return row
