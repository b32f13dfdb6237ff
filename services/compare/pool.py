"""Runs the units of a comparison as processes, several at a time, with progress lines and an orderly stop.

After a unit fails, the running units finish and no other is started. Ctrl-C or SIGTERM stops all of them: a run of the
full system after its step, with a checkpoint; a run in one process at once. A second signal exits immediately.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.driver.progress import Progress
from services.host.children import ChildProcess, last_line
from services.host.interrupts import signals_as_interrupts
from services.records.jsonl import whole_lines
from trainer.errors import ScopeError

POLL_SECONDS = 0.2
REPORT_SECONDS = 20.0
STOP_SECONDS = 300.0
"""how long a run of the full system may take to finish its step, write its checkpoint and exit"""
EXIT_SECONDS = 20.0
"""how long the units may take to exit after a second signal; then they are killed"""


@dataclass(frozen=True)
class Job:
    """One unit, ready to run."""

    name: str
    steps: int
    start: Callable[[], ChildProcess]
    """starts its process"""
    step_file: Path
    """JSON lines with `step` and `entropy`, one for each learner step"""
    log: Path
    finish: Callable[[], None]
    """called once the process has exited with status 0; raises ScopeError when the unit is incomplete"""


class Pool:
    """Runs up to `parallel` jobs at once, in order. Main thread only."""

    def __init__(self, jobs: Sequence[Job], parallel: int, progress: Progress, *, done: int) -> None:
        self._waiting, self._parallel, self._progress = list(jobs), parallel, progress
        self._running: dict[str, tuple[Job, ChildProcess, int]] = {}
        """name → job, process, learner steps done before it was started"""
        self._done, self._all = done, done + len(jobs)
        self._left = sum(job.steps - _last_step(job.step_file)[0] for job in jobs)
        self._made = 0
        self._failures: list[str] = []
        self._started = self._reported = time.monotonic()

    def run(self) -> None:
        """Run every job. Raises ScopeError when one failed, and KeyboardInterrupt after a stop."""
        with signals_as_interrupts():
            try:
                while self._running or (self._waiting and not self._failures):
                    self._start_jobs()
                    self._collect_ended()
                    if self._running:
                        time.sleep(POLL_SECONDS)
                    if time.monotonic() - self._reported > REPORT_SECONDS:
                        self._report()
            except BaseException:
                self._stop()
                raise
        if self._failures:
            raise ScopeError(f"{'; '.join(self._failures)}. Run the same command again to continue.")

    def _start_jobs(self) -> None:
        while self._waiting and len(self._running) < self._parallel and not self._failures:
            job = self._waiting.pop(0)
            before, _ = _last_step(job.step_file)
            self._running[job.name] = (job, job.start(), before)
            self._progress.say(f"{job.name}: started{f' from step {before}' if before else ''}")

    def _collect_ended(self) -> None:
        for name, (job, process, before) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[name]
            try:
                if status:
                    raise ScopeError(f"exit status {status}: {last_line(job.log)} (log: {job.log})")
                job.finish()
            except ScopeError as error:
                self._failures.append(f"{name} failed: {error}".rstrip("."))
                others = f"; waiting for {', '.join(self._running)}" if self._running else ""
                self._progress.say(f"{name}: failed{others}")
                continue
            self._done += 1
            self._made += job.steps - before
            self._report(f"{name}: finished")

    def _report(self, message: str = "") -> None:
        self._reported = time.monotonic()
        under_way, parts = 0, []
        for name, (job, _, before) in self._running.items():
            done, entropy = _last_step(job.step_file)
            under_way += max(done - before, 0)
            level = f", entropy {entropy:z.3f}" if entropy is not None else ""
            parts.append(f"{name} step {done}/{job.steps}{level}")
        made = self._made + under_way
        left = self._left - made
        eta = f"about {_duration(left * (time.monotonic() - self._started) / made)} left" if made else ""
        parts = [*filter(None, [message]), f"{self._done} of {self._all} units", *parts]
        self._progress.say("; ".join([*parts, eta] if eta and left > 0 else parts))

    def _stop(self) -> None:
        """Signal every process and wait until it ends; kill those that take too long."""
        if not self._running:
            return
        self._progress.say(f"stopping {', '.join(self._running)}; a second signal exits immediately")
        try:
            self._signal_and_wait(STOP_SECONDS)
        except KeyboardInterrupt:
            self._signal_and_wait(EXIT_SECONDS)
        finally:
            for _, process, _ in self._running.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _signal_and_wait(self, seconds: float) -> None:
        processes = [process for _, process, _ in self._running.values() if process.poll() is None]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _last_step(path: Path) -> tuple[int, float | None]:
    """Return the learner steps done and the newest entropy, from the last complete line of a file being written."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65536))
            lines = whole_lines(file.read()).splitlines()
    except FileNotFoundError:
        return 0, None
    if not lines:
        return 0, None
    record = msgspec.json.decode(lines[-1])
    return record["step"] + 1, record["entropy"]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(minutes, 1)} min"
