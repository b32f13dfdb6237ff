"""Binds a TCP address of this machine, or the next free one, with errors that tell the user what to do."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainer.errors import ScopeError

RETRY_SECONDS = 0.5
PORTS_TRIED = 100


class PortTaken(ScopeError):
    """Another program listens on the port."""


def bind(
    host: str,
    port: int,
    *,
    field: str = "control_plane",
    patience_seconds: float = 0.0,
    shared: bool = False,
) -> socket.socket:
    """Bind a TCP socket to `host`:`port`. Raises PortTaken, and ScopeError when the host is not of this machine.

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
            raise _taken(port_field, port, host) from None
        raise ScopeError(
            f"{host_field} = {host!r} with {port_field} = {port} cannot be used: {error.strerror}."
        ) from None
    return listener


def bind_one(host: str, port: int | None, usual: int) -> socket.socket:
    """Bind `port`, or without one the first free port from `usual` on. Raises like `bind`."""
    if port is not None:
        return bind(host, port)
    for candidate in range(usual, usual + PORTS_TRIED):
        with suppress(PortTaken):
            return bind(host, candidate)
    raise _none_free(host, usual)


@contextmanager
def claimed_port(host: str, port: int | None, usual: int) -> Iterator[int]:
    """A port for a listener that binds it later, with `shared`; other runs of this machine do not take it meanwhile.

    port, usual: as for `bind_one`. Two runs of one user that both shared a port would get each other's requests.
    """
    for candidate in (port,) if port is not None else range(usual, usual + PORTS_TRIED):
        try:
            claim = _claim(host, candidate)
        except PortTaken:
            if port is not None:
                raise
            continue
        with claim:
            yield candidate
        return
    raise _none_free(host, usual)


def moved(port: int | None, found: int, usual: int) -> str:
    """What a message says after an address whose port differs from the usual one unasked; else nothing."""
    return f" ({usual} is in use)" if port is None and found != usual else ""


def _claim(host: str, port: int) -> socket.socket:
    # A name in Linux's abstract namespace has one owner, and ends with it.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0scope-rl-port-{port}")
    except OSError:
        claim.close()
        raise _taken("control_plane.port", port, host) from None
    try:
        bind(host, port).close()
    except ScopeError:
        claim.close()
        raise
    return claim


def _taken(field: str, port: int, host: str) -> PortTaken:
    return PortTaken(
        f"{field} = {port} is taken on {host}: another program listens there. Stop it, or choose a "
        f"free port from 1024 to 65535, for instance with `--set {field}={port + 1}`."
    )


def _none_free(host: str, usual: int) -> ScopeError:
    return ScopeError(
        f"control_plane.port is unset, and the ports {usual} to {usual + PORTS_TRIED - 1} of {host} are all taken: "
        "name a free port from 1024 to 65535."
    )
