"""Free TCP ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

# Above the ports of Ray's workers and below Linux's ephemeral ports: a test may use a port a minute after
# choosing it, and no connection may take it in between.
CHOICES = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of 127.0.0.1 on which nothing listens."""
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
