"""Binds a TCP address of this machine, with an error that tells the user what to do."""

from __future__ import annotations

import errno
import socket
import time

from trainer.errors import ScopeError

RETRY_SECONDS = 0.5


def bind(
    host: str,
    port: int,
    *,
    field: str = "control_plane",
    patience_seconds: float = 0.0,
    shared: bool = False,
) -> socket.socket:
    """Bind a TCP socket to `host`:`port`. Raises ScopeError when the port is taken or the host is not of this machine.

    field: for the message, the configuration block with `host` and `port`, or the dotted name of a port whose host is
    fixed. patience_seconds: how long to wait for a port that is taken. shared: let other processes of this user bind
    the port too (SO_REUSEPORT); the kernel distributes the connections.
    """
    host_field, port_field = (f"{field}.host", f"{field}.port") if "." not in field else ("the host", field)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ScopeError(
            f"{host_field} = {host!r} is not an address of this machine: {error.strerror}. "
            "Use 127.0.0.1, or 0.0.0.0 for every interface."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE and patience_seconds > 0:
            time.sleep(RETRY_SECONDS)
            left = patience_seconds - RETRY_SECONDS
            return bind(host, port, field=field, patience_seconds=left, shared=shared)
        if error.errno == errno.EADDRINUSE:
            raise ScopeError(
                f"{port_field} = {port} is taken on {host}: another program listens there. Stop it, or choose a "
                f"free port from 1024 to 65535, for instance with `--set {port_field}={port + 1}`."
            ) from None
        raise ScopeError(
            f"{host_field} = {host!r} with {port_field} = {port} cannot be used: {error.strerror}."
        ) from None
    return listener
