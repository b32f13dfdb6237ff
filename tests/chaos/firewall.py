"""Packets to and from the run's Redis that vanish without a reset: the kernel's firewall drops them.

Where there is no iptables, or no right to use it, links are only reset (`Nemesis`).
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import time
from collections.abc import Iterable

import psutil

LOOK_EVERY_SECONDS = 0.2
DISCARD_PORT = 9


@functools.cache
def permitted() -> bool:
    """Whether rules can be made here."""
    if shutil.which("iptables") is None:
        return False
    rule = ["INPUT", "-p", "tcp", "--dport", str(DISCARD_PORT), "-j", "DROP"]
    return all(
        subprocess.run(["iptables", "-w", action, *rule], capture_output=True).returncode == 0
        for action in ("-A", "-D")
    )


def drop(port: int, processes: Iterable[int] | None, seconds: float) -> int:
    """Drop what passes between Redis at `port` and some processes, or everybody (None); number of links that were cut.

    Connections that a process opens meanwhile are found and dropped too.
    """
    rules: set[tuple[str, ...]] = set()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            for rule in _wanted(port, processes) - rules:
                rules.add(rule)
                subprocess.run(["iptables", "-w", "-I", *rule], check=True, capture_output=True)
            time.sleep(LOOK_EVERY_SECONDS)
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True, capture_output=True)
    return len(rules) // 2


def _wanted(port: int, processes: Iterable[int] | None) -> set[tuple[str, ...]]:
    tcp, drop_it = ("INPUT", "-p", "tcp"), ("-j", "DROP")
    if processes is None:
        return {(*tcp, way, str(port), *drop_it) for way in ("--dport", "--sport")}
    found: set[tuple[str, ...]] = set()
    for pid in processes:
        with contextlib.suppress(psutil.Error):
            for link in psutil.Process(pid).net_connections("tcp"):
                if link.raddr and link.raddr.port == port:
                    ends = str(link.laddr.port), str(port)
                    found.add((*tcp, "--sport", ends[0], "--dport", ends[1], *drop_it))
                    found.add((*tcp, "--sport", ends[1], "--dport", ends[0], *drop_it))
    return found
