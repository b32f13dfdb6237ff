"""Kills the processes that a Ray session leaves behind.

They can outlive a driver that was killed, and for a moment also an orderly stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

GONE_SECONDS = 10.0
"""how long killed processes may take to release their memory"""


def kill_orphans(session_dir: Path) -> list[int]:
    """Kill every other process that has a file below `session_dir` open, and wait for their end; returns their ids.

    Call it while holding the run directory's lock, before a new session is started or after one was shut down: every
    process found then belongs to a driver that has ended.
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
    """Whether the process still holds its memory; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _has_open(process: Path, prefix: str) -> bool:
    try:
        return any(os.readlink(fd).startswith(prefix) for fd in (process / "fd").iterdir())
    except OSError:
        # It has ended meanwhile, or belongs to another user.
        return False
