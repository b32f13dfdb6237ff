"""Ends what a driver that was killed has left running: processes of its Ray session outlive it now and then."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def end_orphans(session_dir: Path) -> list[int]:
    """Kill every process that has a file below `session_dir` open; returns their ids.

    To be called under the run directory's lock, before anything new is started there: whoever is found then belongs to
    a driver that is dead.
    """
    prefix = f"{session_dir.resolve()}/"
    found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _has_open(entry, prefix)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _has_open(process: Path, prefix: str) -> bool:
    try:
        return any(os.readlink(fd).startswith(prefix) for fd in (process / "fd").iterdir())
    except OSError:
        # Gone meanwhile, or another user's.
        return False
