"""The control plane on plain uvicorn: `scope serve`, and the separate deployment on Kubernetes."""

from __future__ import annotations

import contextlib

from services.access.tokens import TOKEN_VARIABLE, any_token, register_token
from services.control_plane.app import create_app
from services.control_plane.server import server_of
from services.host.interrupts import handled_by, signals_to_handle
from services.host.sockets import bind_one, moved
from services.redis.access import RedisAccess
from trainer.config import CONTROL_PLANE_PORT, ControlPlaneConfig
from trainer.errors import ScopeError
from trainer.rendezvous import is_loopback


def run_standalone(access: RedisAccess, config: ControlPlaneConfig, token: str | None = None) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. token: becomes an admin token for every run in this Redis.

    Raises `ScopeError` when the address is in use, or when `host` is reachable from other machines and no token exists.
    """
    host = config.host
    with access.sync() as redis:
        if token is not None:
            register_token(redis, None, token, "service", "admin")
        if not is_loopback(host) and not any_token(redis):
            raise ScopeError(
                f"control_plane.host={host!r} would open the control plane to other machines, but there is no token "
                f"yet. Set {TOKEN_VARIABLE}, start a run first, or use 127.0.0.1."
            )
    listener = bind_one(host, config.port, CONTROL_PLANE_PORT)
    port = listener.getsockname()[1]
    print(f"control plane: http://{host}:{port}{moved(config.port, port, CONTROL_PLANE_PORT)}", flush=True)
    server = server_of(create_app(access, config))
    # uvicorn shuts down and then raises KeyboardInterrupt again; here Ctrl-C is the normal way to stop.
    with contextlib.suppress(KeyboardInterrupt), handled_by(server.handle_exit, signals_to_handle()):
        server.run(sockets=[listener])
