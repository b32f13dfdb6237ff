"""Kills the processes that a Ray session leaves behind.

They can outlive a driver that was killed, and for a moment also an orderly stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

GONE_SECONDS = 10.0
"""how long killed processes may take to release their memory"""


def kill_orphans(session_dir: Path) -> list[int]:
    """Kill every other process that has a file below `session_dir` open, and wait for their end; returns their ids.

    Call it when the session is over: every process found then belongs to a driver that has ended or is ending. Looks
    again until it finds none, because a process can start another one while it is looked for.
    """
    prefix = f"{session_dir.resolve()}/"
    killed: list[int] = []
    deadline = time.monotonic() + GONE_SECONDS
    while (found := _users(prefix)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed += [pid for pid in found if pid not in killed]
        while any(map(_runs, found)) and time.monotonic() < deadline:
            time.sleep(0.05)
    return killed


def _users(prefix: str) -> list[int]:
    others = (entry for entry in Path("/proc").glob("[0-9]*") if int(entry.name) != os.getpid())
    return [int(entry.name) for entry in others if _has_open(entry, prefix)]


def _runs(pid: int) -> bool:
    """Whether the process still holds its memory; a zombie does not."""
    try:
        # The name, in parentheses, may contain spaces.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _has_open(process: Path, prefix: str) -> bool:
    try:
        return any(os.readlink(fd).startswith(prefix) for fd in (process / "fd").iterdir())
    except OSError:
        # It has ended meanwhile, or belongs to another user.
        return False
