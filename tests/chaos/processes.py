"""Finds the processes of one run among the descendants of its driver, by kind."""

from __future__ import annotations

import re
from pathlib import Path

KINDS = {
    "learner": r"^ray::.*TrainWorker",
    "generator": r"^ray::(Strict)?Generator",
    "control plane": r"^ray::ServeReplica",
    "redis": r"(valkey|redis)-server",
}


def processes(driver: int, kind: str) -> list[int]:
    """Ids of the processes of `kind` among the descendants of `driver`, lowest first."""
    pattern = re.compile(KINDS[kind])
    return [pid for pid in sorted(descendants(driver)) if pattern.search(command(pid))]


def descendants(ancestor: int) -> set[int]:
    """Every process below `ancestor`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may contain spaces.
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
    """Command line or title of a process; empty if it has exited."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def identity(pid: int) -> tuple[int, int] | None:
    """Process id and the clock tick of its start, which no other process shares. None if it has exited."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (pid, int(fields[19]))


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    return identity(pid) is not None
