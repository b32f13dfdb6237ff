"""A command on a terminal of its own, interrupted at a chosen moment, and what it leaves."""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import ROOT
from tests.support.runs.run_harness import processes_of

START_SECONDS = 400.0


@dataclass
class Ending:
    """How a command on a terminal ended."""

    status: int
    seconds: float
    """from the signal to the end of the command"""
    said: str
    """printed after the signal"""


class Terminal:
    """`scope` in the foreground of a terminal. Its temporary files are in a folder of its own, with a short path.

    environment: with a state folder (XDG_STATE_HOME) of its own, by which the processes are found.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], temporary: Path) -> None:
        self.temporary, self._state = temporary, environment["XDG_STATE_HOME"]
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.command = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**environment, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._said = ""

    def wait_for(self, text: str, log: Path | None = None) -> None:
        """Wait until the command has printed `text`, or a process of it has written `text` to `log`."""
        deadline = time.monotonic() + START_SECONDS
        while text not in (said := self._read()) and (log is None or text not in _content(log)):
            assert self.command.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)

    def interrupt(self, number: signal.Signals) -> Ending:
        """Send a signal: Ctrl-C and a hangup to every process of the terminal's group, others to the command alone."""
        before, started = len(self._read()), time.monotonic()
        if number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(self.command.pid, number)
        else:
            self.command.send_signal(number)
        while self.command.poll() is None:
            assert time.monotonic() < started + START_SECONDS, self._said
            self._read()
            time.sleep(0.02)
        return Ending(self.command.returncode, time.monotonic() - started, self._read()[before:])

    def leftovers(self, seconds: float = 0.5) -> list[str]:
        """Processes and temporary files that are still there after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _left(self) -> list[str]:
        return [*processes_of(self._state), *map(str, self.temporary.iterdir())]

    def _read(self) -> str:
        # EIO: every process has closed the terminal.
        with contextlib.suppress(OSError):
            while part := os.read(self._master, 65536):
                self._said += part.decode(errors="replace")
        return self._said

    def close(self) -> None:
        """End the command."""
        if self.command.poll() is None:
            self.command.kill()
            self.command.wait()
        os.close(self._master)


@contextlib.contextmanager
def short_temporary_folder() -> Iterator[Path]:
    """A temporary folder in which the paths of sockets are short enough."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _content(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""
