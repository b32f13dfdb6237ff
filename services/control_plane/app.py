"""The control plane of the picture: a FastAPI application without state of its own, over Redis.

The same application runs under Ray Serve (`serve_app`) and under plain uvicorn (`standalone`); any number of
replicas may run, since everything they know is in Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from services.control_plane.http import problems, security_headers
from services.control_plane.http.body_limit import BodyLimit
from services.control_plane.openapi import describe
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
    """Build the application. It connects at the first request; 503 while Redis is away.

    limits: on the rate of requests; its address is not used here.
    """
    redis = access.impatient()
    # Enough to get over a connection that a restarted server has dropped, little enough to answer at once.
    redis.set_retry(Retry(ConstantBackoff(0.1), 2))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        redis.close()

    app = FastAPI(
        title="SCOPE-RL control plane",
        version=version("scope-rl-service"),
        summary="Watch runs and move their entropy target.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.redis, app.state.access, app.state.limits = redis, access, limits
    app.state.streams, app.state.series = events.OpenStreams(), metrics.SeriesCache(redis)
    app.add_middleware(BodyLimit, limit=BODY_LIMIT_BYTES)
    problems.install(app)
    security_headers.install(app)
    for room in (
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
        app.include_router(room.router)
    app.openapi = lambda: describe(app)
    return app
