"""The control plane on Ray Serve, in the run's Ray cluster: Serve starts, health-checks and replaces its replicas.

Each replica has its own HTTP server. Serve's HTTP proxy would pass every request through another process, at several
times the CPU time of the answer, on cores that the learner and the generators use.
"""

from __future__ import annotations

import importlib
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from services.control_plane.app import create_app
from services.control_plane.server import ServerThread
from services.host.sockets import bind
from services.redis.access import RedisAccess
from trainer.config import ControlPlaneConfig
from trainer.errors import ScopeError

APPLICATION = "control-plane"
_LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)
_PORT_PATIENCE_SECONDS = 10.0
"""how long a replica waits for the port while its predecessor ends"""


@serve.deployment(name=APPLICATION, logging_config=_LOGGING)
class ControlPlane:
    """A replica. It builds its own application, because clients and sockets cannot be pickled."""

    def __init__(self, access: RedisAccess, config: ControlPlaneConfig, port: int) -> None:
        _listen_on_one_address()
        listener = bind(config.host, port, shared=True, patience_seconds=_PORT_PATIENCE_SECONDS)
        self._server = ServerThread(create_app(access, config), listener)

    def check_health(self) -> None:
        """Called by Ray Serve every few seconds, which replaces a replica that raises."""
        if not self._server.alive:
            raise RuntimeError("the control plane's HTTP server has ended")

    def __del__(self) -> None:
        """Called by Ray Serve when it stops the replica."""
        if hasattr(self, "_server"):
            self._server.stop()


def start_on_serve(access: RedisAccess, config: ControlPlaneConfig, port: int, replicas: int = 1) -> str:
    """Start on this node of the Ray cluster, wait until it serves, and return its base URL.

    port: instead of `config.port`, which may be unset. replicas: processes that share the port. Raises `ScopeError`
    when the address is in use, or when the cluster already runs a control plane.
    """
    if APPLICATION in serve.status().applications:
        raise ScopeError(
            "control_plane.enabled=true is not possible: this Ray cluster already runs the control plane of another "
            "run. Set control_plane.enabled=false and use `scope serve`."
        )
    bind(config.host, port).close()
    serve.start(proxy_location="Disabled", logging_config=_LOGGING)
    here = f"node:{ray.util.get_node_ip_address()}"
    # A replica is idle between requests: it must not reserve a core of the learner or the generators.
    placed = {"num_cpus": 0, "resources": {here: 0.001}}
    deployment = ControlPlane.options(num_replicas=replicas, ray_actor_options=placed)
    serve.run(deployment.bind(access, config, port), name=APPLICATION, route_prefix=None)
    return f"http://{config.host}:{port}"


def _listen_on_one_address() -> None:
    """Let this replica's port for calls between deployments listen on the address of its node, not on every address.

    Call it in the replica's constructor: Serve opens that port afterwards.
    """
    internals: Any = importlib.import_module("ray.serve._private.replica")
    host, add_port = ray.util.get_node_ip_address(), internals.add_port_to_grpc_server
    address = f"[{host}]:0" if ":" in host else f"{host}:0"
    internals.add_port_to_grpc_server = lambda server, _: add_port(server, address)


def stop() -> None:
    """Stop the control plane, and Ray Serve if it has no other application. The cluster keeps running."""
    serve.delete(APPLICATION)
    if not serve.status().applications:
        serve.shutdown()
