"""Routes of the audit log: who changed what, and from which address. For admins, read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from redis import Redis

from services.access.audit import read_audit
from services.access.tokens import Principal
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, allowed, allowed_everywhere
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.runs import Audit, AuditEntry
from services.redis.streams import STREAM_ID

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(pattern=STREAM_ID, description="`next` of the last page")]

router = APIRouter(route_class=StrictRoute, tags=["audit"], responses=problems.RESPONSES)


@router.get("/v1/runs/{run_id}/audit")
def get_audit(
    run_id: str,
    redis: RedisClient,
    _: Annotated[Principal, Depends(allowed("admin"))],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Audit:
    """Every requested change to the run, newest first."""
    return _page(redis, run_id, limit, cursor)


@router.get("/v1/audit")
def get_service_audit(
    redis: RedisClient,
    _: Annotated[Principal, Depends(allowed_everywhere("admin"))],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Audit:
    """Changes that concern all runs (the tokens that are valid for every run), newest first."""
    return _page(redis, None, limit, cursor)


def _page(redis: Redis, run_id: str | None, limit: int, cursor: str | None) -> Audit:
    entries = read_audit(redis, run_id, limit + 1, before=cursor)
    shown = [
        AuditEntry.model_validate(entry.model_dump() | {"at": datetime.fromtimestamp(entry.at, UTC)})
        for entry in entries[:limit]
    ]
    return Audit(entries=shown, next=shown[-1].id if len(entries) > limit else None)
