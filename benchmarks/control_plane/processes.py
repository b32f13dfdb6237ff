"""Processor time by the role of processes, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_ROLES = {
    "ServeReplica": "control plane",
    "Proxy": "Serve's proxy",
    "ServeController": "Serve's controller",
    "services.cli serve": "control plane",
    "valkey-server": "Redis",
    "redis-server": "Redis",
    "VLLM": "generators",
    "ray::Generator": "generators",
    "RayTrainWorker": "learner",
    "services.cli train": "driver",
}
"""part of the command line → role; the first match counts"""
OTHER = "the rest of Ray"


class Usage(NamedTuple):
    """Parent, command line and processor time of one process."""

    parent: int
    command: str
    seconds: float
    """user and system time of all threads so far"""


def cpu_seconds(root: int) -> dict[int, tuple[str, float]]:
    """Role and processor time so far of a process and its descendants, by process id."""
    every = {int(entry.name): usage for entry in Path("/proc").iterdir() if (usage := _usage(entry))}
    family, more = set[int](), {root}
    while more:
        family |= more
        more = {pid for pid, usage in every.items() if usage.parent in family} - family
    return {pid: (_role(every[pid].command), every[pid].seconds) for pid in family if pid in every}


def used(before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]) -> dict[str, float]:
    """Processor seconds between two results of `cpu_seconds`, by role. Processes that ended in between do not count."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for pid, (role, total) in after.items():
        seconds[role] += total - before.get(pid, (role, 0.0))[1]
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def machine_busy_seconds() -> float:
    """Processor time that the whole machine has used so far, including interrupts and guests."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def _usage(entry: Path) -> Usage | None:
    if not entry.name.isdigit():
        return None
    try:
        fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    return Usage(int(fields[1]), command, (int(fields[11]) + int(fields[12])) / _TICKS)


def _role(command: str) -> str:
    return next((role for part, role in _ROLES.items() if part in command), OTHER)
