"""Binding the control plane's address, with an error that says what to do."""

from __future__ import annotations

import errno
import socket

from trainer.errors import ScopeError


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket on `host`:`port`. Raises `ScopeError` when it is taken or is not an address here."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ScopeError(
            f"control_plane.host = {host!r} is not an address of this machine: {error.strerror}. "
            "Use 127.0.0.1, or 0.0.0.0 for every interface."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ScopeError(
                f"control_plane.port = {port} is taken on {host}: another program listens there. Choose a "
                "free port from 1024 to 65535, for instance with `--set control_plane.port=8081`."
            ) from None
        raise ScopeError(
            f"control_plane.host = {host!r} with control_plane.port = {port} cannot be used: "
            f"{error.strerror}."
        ) from None
    return listener
