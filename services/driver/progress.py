"""The terminal output of a run, in plain lines or JSON. `services.driver.live_progress` adds a line that stays."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from services.driver.alarm_news import AlarmNews
from services.driver.step_line import heading, step_line
from services.driver.time_left import clock
from services.host.terminal import write_line
from services.run.phases import phase_text

if TYPE_CHECKING:
    from trainer.starting_model.warm_start_result import WarmStartProgress

WARM_START_LINES = 20
QUIET_SECONDS = 20.0
"""`wait` prints its first line when nothing has been printed for this long."""

JSON_FIELDS = (
    "step",
    "entropy",
    "entropy_target",
    "temperature",
    "alpha",
    "saturated",
    "reward",
    "positives",
    "step_seconds",
    "wait_seconds",
)


class Progress:
    """Prints plain lines, for a person or a file. Used on the driver's main thread and in its signal handler."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = self._entered = time.monotonic()
        self.last_line = time.monotonic()
        self._phase, self._detail = "starting", ""
        self._alarms = AlarmNews()
        self._header = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the output."""

    def say(self, text: str) -> None:
        """Print one line, with the time since the start."""
        elapsed = int(time.monotonic() - self._started)
        self._print(f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {text}")

    def warm_start(self, progress: WarmStartProgress) -> None:
        """Show the progress of a warm start, in about twenty lines."""
        every = max(1, progress.of // WARM_START_LINES)
        if progress.step % every == 0 or progress.step == progress.of:
            self.say(
                f"warm start {progress.step}/{progress.of}: loss {progress.loss:z.3f} nats/token, "
                f"{progress.tokens_per_second:,.0f} tokens/s"
            )

    def enter(self, phase: str, detail: str = "") -> None:
        """Note the run's phase, of `services.run.phases`, and how far it is."""
        if phase != self._phase:
            self._entered = time.monotonic()
            self._detail = ""
        self._phase, self._detail = phase, detail or self._detail

    def wait(self) -> None:
        """Say which phase or step the run is in, if nothing has been printed for long. Call it while waiting.

        The longer it lasts, the rarer are the lines.
        """
        now = time.monotonic()
        lasted = now - self._entered
        if now - self.last_line > max(QUIET_SECONDS, lasted / 2):
            self.say(f"{phase_text(self._phase, self._detail)} ({clock(lasted)})")

    def evaluated(self, seconds: float) -> None:
        """Note how long the evaluation of the whole held-out set took."""

    def steps(self, records: Sequence[Mapping[str, Any]], of: int) -> None:
        """Print the records of learner steps from Redis, in turn. of: learner steps of the run."""
        for record in records:
            self._step(record, of)
            self._entered, self._detail = time.monotonic(), f"step {record['step'] + 2} of {of}"

    def close_with(self, summary: Sequence[str]) -> None:
        """Print the closing summary, line by line."""
        for line in ("", *summary):
            self._print(line)

    def _step(self, record: Mapping[str, Any], of: int) -> None:
        if not self._header:
            self._header = True
            self.say(heading(of, self._columns()))
        self.say(step_line(record, of, self._columns()))
        for news in self._alarms.of(record):
            self.say(news)

    def _columns(self) -> int | None:
        """Characters of a line after the time; None: any number."""
        return None

    def _print(self, line: str) -> None:
        write_line(line, self._stream)
        self.last_line = time.monotonic()


class JsonProgress(Progress):
    """Prints one JSON object a line, for log collectors.

    Fields: `at` (seconds since the epoch), `run`, `role` and `event`; for a learner step also its number and headline
    fields, named as in the step record.
    """

    def __init__(self, run_id: str, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._run_id = run_id

    def say(self, text: str) -> None:
        self._write("driver", "message", {"text": text.strip()})

    def enter(self, phase: str, detail: str = "") -> None:
        if phase != self._phase:
            self._write("driver", "phase", {"phase": phase})
        super().enter(phase, detail)

    def close_with(self, summary: Sequence[str]) -> None:
        self._write("driver", "summary", {"text": "\n".join(summary)})

    def _step(self, record: Mapping[str, Any], of: int) -> None:
        self._write("learner", "step", {"of": of, **{name: record[name] for name in JSON_FIELDS}})
        for news in self._alarms.of(record):
            self._write("learner", "alarm", {"step": record["step"], "text": news})

    def _write(self, role: str, event: str, fields: dict[str, Any]) -> None:
        line = {"at": round(time.time(), 3), "run": self._run_id, "role": role, "event": event, **fields}
        self._print(json.dumps(line))
