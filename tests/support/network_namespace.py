"""A network namespace beside this one: another machine, as far as sockets can tell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

CONNECT = """
import socket, sys
for port in map(int, sys.argv[2:]):
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as client:
        client.settimeout(3)
        if not client.connect_ex((sys.argv[1], port)):
            print(port)
"""


@dataclass(frozen=True)
class Stranger:
    """A machine linked to this one by a cable of its own."""

    namespace: str
    addresses: tuple[str, str]
    """of this machine on that cable, IPv4 and IPv6"""

    def reached(self, ports: Iterable[int]) -> set[int]:
        """Those of this machine's TCP ports that accept a connection of the stranger, over either address."""
        found = set()
        for address in self.addresses:
            command = ["ip", "netns", "exec", self.namespace, sys.executable, "-IS", "-c", CONNECT, address]
            done = subprocess.run(
                [*command, *map(str, ports)], capture_output=True, text=True, timeout=300, check=True
            )
            found |= {int(port) for port in done.stdout.split()}
        return found


@contextmanager
def stranger() -> Iterator[Stranger]:
    """Make the namespace and the cable for the context; skip the test, with the reason, where that is not permitted."""
    name = f"scope{os.getpid() % 100_000}"
    net = os.getpid() % 60_000
    four, six = f"198.18.{net // 256}.", f"fd00:5c0:{net:x}::"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)

    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces are not permitted here: {getattr(error, 'stderr', error)}")
    try:
        here, there = f"{name}h", f"{name}t"
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        for end, number, inside in ((here, 1, ()), (there, 2, ("-n", name))):
            ip(*inside, "addr", "add", f"{four}{number}/24", "dev", end)
            ip(*inside, "addr", "add", f"{six}{number}/64", "dev", end, "nodad")
            ip(*inside, "link", "set", end, "up")
        yield Stranger(name, (f"{four}1", f"{six}1"))
    finally:
        # The cable ends with the namespace.
        ip("netns", "del", name)
