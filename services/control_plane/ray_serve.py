"""The control plane on Ray Serve, inside the run's Ray cluster: Serve starts, watches and replaces it.

Each replica listens itself. Serve's HTTP proxy would hand every request to another process and back, at several times
the processor time of the answer, which learner and generators on the same cores would miss.
"""

from __future__ import annotations

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
"""a replica takes over from one that is ending"""


@serve.deployment(name=APPLICATION, logging_config=_LOGGING)
class ControlPlane:
    """A replica; builds its own application, because clients and sockets do not travel."""

    def __init__(self, access: RedisAccess, config: ControlPlaneConfig) -> None:
        listener = bind(config.host, config.port, shared=True, patience_seconds=_PORT_PATIENCE_SECONDS)
        self._server = ServerThread(create_app(access, config), listener)

    def check_health(self) -> None:
        """Called by Ray Serve every few seconds; it replaces a replica that raises."""
        if not self._server.alive:
            raise RuntimeError("the control plane's HTTP server has ended")

    def __del__(self) -> None:
        """Called by Ray Serve when the replica ends in order."""
        if hasattr(self, "_server"):
            self._server.stop()


def start_on_serve(access: RedisAccess, config: ControlPlaneConfig, replicas: int = 1) -> str:
    """Start on this node of the Ray cluster, wait until it serves, and return its base URL.

    replicas: processes that share the port. Raises `ScopeError` when the address is taken, or when the cluster has a
    control plane.
    """
    if APPLICATION in serve.status().applications:
        raise ScopeError(
            "control_plane.enabled = true is not possible on this Ray cluster: another run's control plane is there. "
            "Set control_plane.enabled=false and use `scope serve`."
        )
    bind(config.host, config.port).close()
    serve.start(proxy_location="Disabled", logging_config=_LOGGING)
    here = f"node:{ray.util.get_node_ip_address()}"
    # A replica sleeps between requests: it must not take a core from the learner and the generators.
    placed = {"num_cpus": 0, "resources": {here: 0.001}}
    deployment = ControlPlane.options(num_replicas=replicas, ray_actor_options=placed)
    serve.run(deployment.bind(access, config), name=APPLICATION, route_prefix=None)
    return f"http://{config.host}:{config.port}"


def stop() -> None:
    """End the control plane, and Ray Serve where nobody else uses it; the cluster stays."""
    serve.delete(APPLICATION)
    if not serve.status().applications:
        serve.shutdown()
