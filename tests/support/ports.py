"""TCP ports for servers that the tests start."""

from __future__ import annotations

import random
import socket

# Above the workers' ports of Ray, below those that Linux gives to clients: a port that a test only uses after a minute
# of starting up must not be taken meanwhile by some connection.
CHOICES = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 on which nothing listens."""
    found: list[int] = []
    for port in random.SystemRandom().sample(CHOICES, len(CHOICES)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"fewer than {count} of the ports {CHOICES} are free")
