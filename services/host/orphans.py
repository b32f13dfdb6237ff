"""Ends what is left running of a Ray session: its processes outlive the driver now and then, and an orderly stop for
moments."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

GONE_SECONDS = 10.0
"""for a killed process to hand its memory back"""


def kill_orphans(session_dir: Path) -> list[int]:
    """Kill every other process that has a file below `session_dir` open and wait until it is gone; returns their ids.

    To be called under the run directory's lock, before anything new is started there, or once the session was shut
    down: whoever is found then belongs to a driver that is dead, or to nobody.
    """
    prefix = f"{session_dir.resolve()}/"
    others = (entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid())
    found = [int(entry.name) for entry in others if _has_open(entry, prefix)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while any(map(_runs, found)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _runs(pid: int) -> bool:
    """Whether the process still has its memory; its exit status may still wait for whoever started it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _has_open(process: Path, prefix: str) -> bool:
    try:
        return any(os.readlink(fd).startswith(prefix) for fd in (process / "fd").iterdir())
    except OSError:
        # Gone meanwhile, or another user's.
        return False
