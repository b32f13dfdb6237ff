"""The processes of one run, found from its driver downwards, by what they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

KINDS = {
    "learner": r"^ray::.*TrainWorker",
    "generator": r"^ray::Generator",
    "control plane": r"^ray::ServeReplica",
    "redis": r"(valkey|redis)-server",
}


def processes(driver: int, kind: str) -> list[int]:
    """Process ids of `kind` among the descendants of `driver`, lowest first."""
    pattern = re.compile(KINDS[kind])
    return [pid for pid in sorted(descendants(driver)) if pattern.search(command(pid))]


def descendants(ancestor: int) -> set[int]:
    """Every process below `ancestor`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold spaces.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


def command(pid: int) -> str:
    """Command line or title of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
