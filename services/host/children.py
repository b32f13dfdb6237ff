"""Child processes that write to a log file and end with this process."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import psutil

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


class Descendants:
    """The processes that this one starts from here on, and what they start. Others of this process are not touched."""

    def __init__(self) -> None:
        self._before = set(psutil.Process().children())

    def end(self, seconds: float = 1.0) -> None:
        """End them: by SIGTERM, and by SIGKILL those that have not ended after `seconds`."""
        below = list(self._alive())
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(below, seconds)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, seconds)

    def _alive(self) -> Iterator[psutil.Process]:
        for child in psutil.Process().children():
            if child not in self._before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield from child.children(recursive=True)
                    yield child


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
