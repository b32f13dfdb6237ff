"""The terminal output of a run: one line for each learner step, flushed at once."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from services.host.terminal import write_line

if TYPE_CHECKING:
    from services.run.state import RunStatus
    from trainer.starting_model.warm_start_result import WarmStartProgress

WARM_START_LINES = 20
QUIET_SECONDS = 20.0
"""Print a line when nothing has been printed for this long."""

# T: temperature of adaptive rollouts; pos: rewarded adaptive rollouts; lag: mean staleness in learner steps.
HEADER = (
    f"{'step':>9} {'entropy':>8} {'target':>7} {'T':>5} {'alpha':>6} {'reward':>7} {'pos':>4} {'lag':>4} "
    f"{'s/step':>7} {'wait':>6}"
)


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
    """Prints lines. Used on the driver's main thread and on the thread of its stop signals."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = time.monotonic()
        self._last_step = -1
        self.last_line = time.monotonic()
        self._header = False

    def say(self, text: str) -> None:
        """Print one line, with the time since the start."""
        elapsed = int(time.monotonic() - self._started)
        write_line(f"[{elapsed // 60:3d}:{elapsed % 60:02d}] {text}", self._stream)
        self.last_line = time.monotonic()

    def warm_start(self, progress: WarmStartProgress) -> None:
        """Print the progress of a warm start, about twenty lines in all."""
        every = max(1, progress.of // WARM_START_LINES)
        if progress.step % every == 0 or progress.step == progress.of:
            self.say(
                f"warm start {progress.step}/{progress.of}: loss {progress.loss:.3f} nats/token, "
                f"{progress.tokens_per_second:,.0f} tokens/s"
            )

    def show(self, status: RunStatus | None) -> None:
        """Print the newest step, if it has not been printed."""
        record = status.record if status else None
        if record is None or status is None or record["step"] == self._last_step:
            if time.monotonic() - self.last_line > QUIET_SECONDS:
                self.say("waiting for the learner")
            return
        self._last_step = record["step"]
        if not self._header:
            self._header = True
            self.say(HEADER)
        self.say(_line(record, status.of))
        for alarm in record["alarms"]:
            if "limit of its actuators" not in alarm:
                self.say(f"  alarm: {alarm}")


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

    def show(self, status: RunStatus | None) -> None:
        record = status.record if status else None
        if record is None or status is None or record["step"] == self._last_step:
            return
        self._last_step = record["step"]
        self._write("learner", "step", {"of": status.of, **{name: record[name] for name in JSON_FIELDS}})
        for alarm in record["alarms"]:
            self._write("learner", "alarm", {"step": record["step"], "text": alarm})

    def _write(self, role: str, event: str, fields: dict[str, Any]) -> None:
        line = {"at": round(time.time(), 3), "run": self._run_id, "role": role, "event": event, **fields}
        write_line(json.dumps(line), self._stream)


def _line(record: dict[str, Any], of: int) -> str:
    rollouts = {int(staleness): count for staleness, count in record["staleness"].items()}
    lag = sum(staleness * count for staleness, count in rollouts.items()) / max(sum(rollouts.values()), 1)
    target = f"{record['entropy_target']:7.3f}" if record["entropy_target"] is not None else "      -"
    mark = "!" if record["saturated"] else " "
    return (
        f"{record['step'] + 1:>4}/{of:<4} {record['entropy'] or float('nan'):8.3f} {target} "
        f"{record['temperature']:5.2f} {record['alpha']:5.2f}{mark} {record['reward']:7.3f} {record['positives']:>4} "
        f"{lag:4.1f} {record['step_seconds']:7.2f} {record['wait_seconds']:6.2f}"
    )
