"""The terminal output of a run with a line at the bottom that follows it, below the lines that scroll."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from services.driver.live_line import Moment, live_line
from services.driver.progress import Progress
from services.driver.time_left import TimeLeft

if TYPE_CHECKING:
    from trainer.starting_model.warm_start_result import WarmStartProgress

REFRESHES_PER_SECOND = 2
STAMP_WIDTH = 9
"""characters of the time before each line"""
HEADING_EVERY = 40
"""Steps after which the heading is repeated, because the first one has scrolled away."""


class LiveProgress(Progress):
    """Prints the lines of `Progress` above the live line, which is there within the context."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console, self._left = console, TimeLeft()
        self._record: Mapping[str, Any] | None = None
        self._of = 0
        self._live = Live(
            get_renderable=self._line,
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            # What libraries print on this terminal goes above the line too.
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start()
        # A driver that is killed could not bring the cursor back.
        self._console.show_cursor(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def enter(self, phase: str, detail: str = "") -> None:
        changed = phase != self._phase or detail not in ("", self._detail)
        super().enter(phase, detail)
        if changed:
            # At once: a library that is loaded next may keep the thread of the line from running.
            self._live.refresh()

    def warm_start(self, progress: WarmStartProgress) -> None:
        """Print nothing: the live line tells it."""

    def wait(self) -> None:
        """Print nothing: the live line tells it."""

    def evaluated(self, seconds: float) -> None:
        self._left.evaluated(seconds)

    def steps(self, records: Sequence[Mapping[str, Any]], of: int) -> None:
        for record in records:
            self._header = self._header and record["step"] % HEADING_EVERY != 0
            self._left.step(record)
            self._record, self._of = record, of
            super().steps([record], of)

    def _columns(self) -> int:
        return self._console.width - STAMP_WIDTH

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
        self.last_line = time.monotonic()

    def _line(self) -> RenderableType:
        record, lasted = self._record, time.monotonic() - self._entered
        done = 0 if record is None else record["step"] + 1
        left = self._left.seconds(done, self._of)
        if left is not None:
            left = max(0.0, left - lasted)
        moment = Moment(self._phase, self._detail, lasted, done, self._of, left, record)
        return live_line(moment, self._console.width)
