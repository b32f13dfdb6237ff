"""Where processes meet before they exchange tensors: at one address, and on one machine over loopback only.

torch's stores and gloo have no password: whoever connects can read and change what the ranks exchange. A store that
torch opens itself listens on every address of the machine; the ones opened here listen on one.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

OVER_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Environment variables that keep gloo and NCCL on this machine. Otherwise they use the address of the host's name."""


def open_store(host: str, port: int, size: int, timeout: timedelta) -> TCPStore:
    """Open a store that listens on `host`, an address of this machine, and on no other; does not wait for the others.

    port: 0 for a free one, which `store.port` names. size: processes that will connect, this one included. timeout: of
    waiting for a key. Raises OSError when the address cannot be used.
    """
    # torch takes a second to import, and the driver reads only the constant of this module.
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.create_server(address[:2], family=family)
    port = listener.getsockname()[1]
    return TCPStore(
        host,
        port,
        size,
        is_master=True,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def connect_store(host: str, port: int, size: int, timeout: timedelta) -> TCPStore:
    """Connect to the store that another process has opened, or will open within `timeout`.

    Raises torch's `DistNetworkError` when it does not answer in time.
    """
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    return TCPStore(host, port, size, is_master=False, timeout=timeout)


def stay_on_loopback(host: str) -> None:
    """Keep this process's gloo and NCCL groups on loopback if the processes meet at `host`, a loopback address."""
    if is_loopback(host):
        for name, value in OVER_LOOPBACK.items():
            os.environ.setdefault(name, value)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, an address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
