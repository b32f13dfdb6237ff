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
    """Kill every other process that has a file below `session_dir` open, and its descendants; returns their ids.

    Returns when they have ended.

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
    """Processes with a file below `prefix` open, and those that they have started."""
    pids = {int(entry.name) for entry in Path("/proc").glob("[0-9]*")} - {os.getpid()}
    children: dict[int, list[int]] = {}
    for pid in pids:
        if (fields := _fields(pid)) is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in pids if _has_open(Path("/proc") / str(pid), prefix)]
    while waiting:
        pid = waiting.pop()
        if pid not in found and _runs(pid):
            found.add(pid)
            waiting += children.get(pid, [])
    return sorted(found)


def _runs(pid: int) -> bool:
    """Whether the process still holds its memory; a zombie does not."""
    fields = _fields(pid)
    return fields is not None and fields[0] != "Z"


def _fields(pid: int) -> list[str] | None:
    """State, parent's id, and so on of a process; None if it has ended."""
    try:
        # The name, in parentheses, may contain spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _has_open(process: Path, prefix: str) -> bool:
    try:
        return any(os.readlink(fd).startswith(prefix) for fd in (process / "fd").iterdir())
    except OSError:
        # It has ended meanwhile, or belongs to another user.
        return False
