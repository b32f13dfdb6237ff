"""The open connections of one server process, and which of them makes room for a new one.

A connection on which no complete request waits for its answer costs its client nothing, so that one client could hold
all of them. When there are too many, the one that has waited longest is closed, and not the new one refused: a crowd
of silent connections then keeps nobody out, not even from the same address. Those without a valid token come first.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol


class Evictable(Protocol):
    """A connection of a client."""

    @property
    def waits_since(self) -> tuple[bool, float] | None:
        """Whether it has shown a valid token, and since when the server waits for its client; None: it does not."""

    def evict(self) -> None:
        """Close it at once."""


class OpenConnections:
    """Counts connections, in all and by network (`network_of`). For use on one event loop."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._networks: dict[Evictable, str] = {}
        self._crowds: dict[str, set[Evictable]] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def enter(self, connection: Evictable, network: str) -> bool:
        """Count a new connection; returns False, and does not count it, where none can make room for it."""
        crowd = self._crowds.get(network, set())
        if len(crowd) >= self._most_per_address:
            made = self._make_room(crowd)
        elif len(self._networks) >= self._most:
            made = self._make_room(max(self._crowds.values(), key=len))
        else:
            made = True
        if made:
            self._networks[connection] = network
            self._crowds.setdefault(network, set()).add(connection)
        return made

    def leave(self, connection: Evictable) -> None:
        """Count a connection no more; does nothing for one that is not counted."""
        network = self._networks.pop(connection, None)
        if network is None:
            return
        self._crowds[network].discard(connection)
        if not self._crowds[network]:
            del self._crowds[network]

    def _make_room(self, crowd: set[Evictable]) -> bool:
        waiting = [(since, connection) for connection in crowd if (since := connection.waits_since)]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda found: found[0])
        self.leave(longest)
        longest.evict()
        return True


def network_of(address: str) -> str:
    """What one client can have many addresses of: an IPv4 address itself, the network of 64 bits of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
