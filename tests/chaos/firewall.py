"""Drops packets to and from the run's Redis with the kernel's firewall, so that links fail without a reset.

Without iptables, or without the right to use it, links are only reset (`Nemesis`).
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
    """Whether this process may add firewall rules."""
    if shutil.which("iptables") is None:
        return False
    rule = ["INPUT", "-p", "tcp", "--dport", str(DISCARD_PORT), "-j", "DROP"]
    return all(
        subprocess.run(["iptables", "-w", action, *rule], capture_output=True).returncode == 0
        for action in ("-A", "-D")
    )


def drop(port: int, processes: Iterable[int] | None, seconds: float) -> int:
    """Drop packets between Redis at `port` and some processes, or all (None); returns the number of links cut.

    Connections that a process opens in the meantime are dropped too.
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
