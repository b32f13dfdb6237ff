"""Child processes that write to a log file and end with this process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from services.host.die_with_parent import die_with_parent


class ChildProcess(Protocol):
    """A running program. `subprocess.Popen` implements it."""

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        ...

    def wait(self) -> int:
        """Wait until it has ended; returns the exit status."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...

    def kill(self) -> None:
        """Send it SIGKILL."""
        ...


def start_child(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that appends its output to `log`, ends when this process ends, and does not receive Ctrl-C.

    environment: variables besides those of this process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            die_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            start_new_session=True,
        )


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within the block, as Ctrl-C does. Main thread only."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
