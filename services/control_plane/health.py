"""Probes, open to anyone: is the process alive, and can it reach the state of the runs?"""

from __future__ import annotations

from fastapi import APIRouter

from services.control_plane import problems
from services.control_plane.auth import State
from services.control_plane.schemas import Health

router = APIRouter(tags=["health"], responses=problems.RESPONSES)


@router.get("/healthz")
def healthz() -> Health:
    """Alive. Says nothing of Redis: a restart of this process would not bring it back."""
    return Health(status="ok")


@router.get("/readyz")
def readyz(redis: State) -> Health:
    """Able to serve: Redis answers. 503 where it does not."""
    redis.ping()
    return Health(status="ok")
