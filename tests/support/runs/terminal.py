"""`scope train` on a terminal of its own, interrupted at a chosen moment, and what it leaves."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT
from tests.support.runs.run_harness import Run, left_running

START_SECONDS = 400.0


@dataclass
class Ending:
    """How a run on a terminal ended."""

    status: int
    seconds: float
    """from the signal to the end of the driver"""
    said: str
    """printed after the signal"""


class Terminal:
    """A run in the foreground of a terminal. Its temporary files are in a folder of its own, with a short path."""

    def __init__(self, run: Run, config: Path, temporary: Path) -> None:
        self.run, self.temporary = run, temporary
        arguments = [str(config), "--run-id", run.directory.name]
        arguments += [part for setting in run.settings for part in ("--set", setting)]
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "train", *arguments],
            env=run.environment | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._said = ""

    def wait_for(self, text: str) -> None:
        """Wait until the run has printed `text`."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self._read():
            assert self.driver.poll() is None, self._said
            assert time.monotonic() < deadline, self._said
            time.sleep(0.02)

    def interrupt(self, number: signal.Signals) -> Ending:
        """Send a signal: Ctrl-C and a hangup to every process of the terminal's group, others to the driver."""
        before, started = len(self._read()), time.monotonic()
        if number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(self.driver.pid, number)
        else:
            self.driver.send_signal(number)
        while self.driver.poll() is None:
            assert time.monotonic() < started + START_SECONDS, self._said
            self._read()
            time.sleep(0.02)
        return Ending(self.driver.returncode, time.monotonic() - started, self._read()[before:])

    def leftovers(self, seconds: float = 0.5) -> list[str]:
        """Processes and temporary files that are still there after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _left(self) -> list[str]:
        return [*left_running(self.run), *map(str, self.temporary.iterdir())]

    def _read(self) -> str:
        # EIO: every process has closed the terminal.
        with contextlib.suppress(OSError):
            while part := os.read(self._master, 65536):
                self._said += part.decode(errors="replace")
        return self._said

    def close(self) -> None:
        """End what is left of the run."""
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        os.close(self._master)


@contextlib.contextmanager
def short_temporary_folder() -> Iterator[Path]:
    """A temporary folder in which the paths of sockets are short enough."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
