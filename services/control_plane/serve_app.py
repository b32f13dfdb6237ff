"""The control plane on Ray Serve, inside the run's Ray cluster."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from services.control_plane.app import create_app
from services.listen import bind
from services.redis_client import RedisAccess
from trainer.config import ControlPlaneConfig
from trainer.errors import ScopeError

APPLICATION = "control-plane"


@serve.deployment(
    name=APPLICATION,
    num_replicas=1,
    max_ongoing_requests=512,
    # The replica sleeps between requests: it must not take a core from the learner and the generators.
    ray_actor_options={"num_cpus": 0},
    logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
)
@serve.ingress()
class ControlPlane:
    """A replica; builds its own application, because clients and sockets do not travel."""

    def __init__(self, access: RedisAccess, limits: ControlPlaneConfig) -> None:
        self._access, self._limits = access, limits

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve once the replica is constructed."""
        return create_app(self._access, self._limits)


def start_on_serve(access: RedisAccess, config: ControlPlaneConfig) -> str:
    """Start on the Ray cluster this process is connected to, wait until it serves, and return its base URL.

    Raises `ScopeError` when the address is taken, or when the cluster runs Ray Serve for somebody else: its
    proxy has an address already.
    """
    if serve.status().proxies:
        raise ScopeError(
            "control_plane.enabled = true is not possible on this Ray cluster: Ray Serve runs there already. "
            "Set control_plane.enabled=false and use `scope serve`, or end the other by `serve shutdown`."
        )
    host, port = config.host, config.port
    bind(host, port).close()
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=host, port=port),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    serve.run(ControlPlane.bind(access, config), name=APPLICATION, route_prefix="/")
    return f"http://{host}:{port}"


def stop() -> None:
    """End Ray Serve with its replicas and its proxy; the cluster stays."""
    serve.shutdown()
