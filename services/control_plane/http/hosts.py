"""The Host header: a request must be meant for this server.

A web site can let its own name resolve to an address of this machine (DNS rebinding); a browser then takes this server
for that site and lets its scripts read the answers. Such a request carries the site's name as its host.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from http import HTTPStatus

from services.control_plane.http.problems import Problem
from trainer.config import ControlPlaneConfig
from trainer.rendezvous import is_loopback

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")


class HostNames:
    """The names under which a control plane answers."""

    def __init__(self, config: ControlPlaneConfig) -> None:
        names = ["localhost", config.host, *config.allowed_hosts]
        if not is_loopback(config.host):
            names.append(socket.gethostname())
        self._names = frozenset(_plain(name) for name in names)

    def refusal(self, hosts: Sequence[str], local_address: str | None) -> Problem | None:
        """Why a request is refused: 400 without exactly one well-formed host, 421 for a host that is not this server.

        hosts: the values of the Host header. local_address: the address at which the connection arrived; it is always
        accepted, so that probes and scrapes by address need no configuration.
        """
        found = _HOST.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
        if found is None:
            return Problem(
                HTTPStatus.BAD_REQUEST, "A request must have one Host header: a name or an address."
            )
        name = _plain(found[1])
        if (
            name in self._names
            or is_loopback(name)
            or (local_address is not None and name == _plain(local_address))
        ):
            return None
        return Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"This control plane does not answer for the host {name[:80]!r}. Use its address, or add the name to "
            "control_plane.allowed_hosts.",
            kind="unknown-host",
        )


def _plain(host: str) -> str:
    """A host in one spelling: lower case, without brackets and the dot of the root; an address in its short form."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
