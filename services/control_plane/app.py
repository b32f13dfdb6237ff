"""The control plane: a stateless FastAPI application over Redis.

The same application runs under Ray Serve (`ray_serve`) and under plain uvicorn (`standalone`). Any number of replicas
may run, because all state is in Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from services.control_plane import openapi
from services.control_plane.http import problems, security_headers
from services.control_plane.http.body_limit import BodyLimit
from services.control_plane.http.methods import Methods
from services.control_plane.http.request_checks import RequestChecks
from services.control_plane.routes import (
    audit,
    entropy_target,
    events,
    health,
    metrics,
    page_files,
    prometheus,
    queue,
    rollouts,
    runs,
    tokens,
)
from services.redis.access import RedisAccess
from trainer.config import ControlPlaneConfig

BODY_LIMIT_BYTES = 16 * 1024
DEFAULTS = ControlPlaneConfig()


def create_app(access: RedisAccess, limits: ControlPlaneConfig = DEFAULTS) -> FastAPI:
    """Build the application. It connects to Redis at the first request, and answers 503 while Redis is unreachable.

    limits: its request rates and host names are used here; a server of `services.control_plane.server` uses the rest.
    """
    redis = access.without_retries()
    # Enough to replace a connection that a restarted server dropped, and few enough to answer quickly.
    redis.set_retry(Retry(ConstantBackoff(0.1), 2))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        redis.close()

    app = FastAPI(
        title="SCOPE-RL control plane",
        version=version("scope-rl-service"),
        summary="Watch runs and change their entropy target.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.redis, app.state.access, app.state.limits = redis, access, limits
    app.state.streams, app.state.series = events.OpenStreams(), metrics.SeriesCache(redis)
    # The one that is added last sees a request first.
    app.add_middleware(BodyLimit, limit=BODY_LIMIT_BYTES)
    app.add_middleware(Methods)
    app.add_middleware(RequestChecks, config=limits)
    problems.install(app)
    security_headers.install(app)
    for module in (
        health,
        entropy_target,
        metrics,
        events,
        queue,
        rollouts,
        tokens,
        audit,
        prometheus,
        runs,
        page_files,
    ):
        app.include_router(module.router)
    openapi.install(app)
    return app
