"""Route of a run's live events (server-sent events): steps, evaluations, phases, changes of the entropy target.

The events come from two Redis streams, so an event's id is a position in both. A client that reconnects with the last
id as Last-Event-ID misses nothing that the streams still hold.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.responses import StreamingResponse

from services.access.tokens import Principal, authenticate
from services.control_plane.http import problems
from services.control_plane.http.auth import RedisClient, Token, allowed
from services.control_plane.http.problems import Problem
from services.control_plane.http.strict_route import StrictRoute
from services.control_plane.schemas.base import FieldProblem
from services.control_plane.schemas.entropy_target import EntropyTargetEvent
from services.entropy_target.documents import HistoryEvent
from services.records.redis_records import read_record
from services.redis.access import RedisAccess
from services.redis.keys import RunKeys
from services.redis.query import as_fields, as_text
from services.run.state import evaluations, read_spec

WAIT_MILLISECONDS = 5_000
"""milliseconds between keep-alive comments on a quiet stream; the token is checked again at the same interval"""
BATCH = 200
MOST_STREAMS = 256
"""event streams per process; each holds a connection to Redis"""
_PLACE = re.compile(r"([0-9]{1,18}-[0-9]{1,18})_([0-9]{1,18}-[0-9]{1,18})")

LastEventId = Annotated[
    str | None, Header(description="id of the last event received; without it, only new events are sent")
]

router = APIRouter(
    route_class=StrictRoute, prefix="/v1/runs/{run_id}/events", tags=["events"], responses=problems.RESPONSES
)


@router.get(
    "",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "Server-sent events: step, evaluation, phase, entropy-target.",
        }
    },
)
async def get_events(
    run_id: str,
    request: Request,
    redis: RedisClient,
    token: Token,
    _: Annotated[Principal, Depends(allowed("viewer"))],
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Live events: `step` (a step record), `evaluation`, `phase`, `entropy-target` (an entry of its history)."""
    if await run_in_threadpool(read_spec, redis, run_id) is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"The run {run_id!r} has not started.")
    places = await run_in_threadpool(_ends, redis, run_id) if last_event_id is None else _parse(last_event_id)
    follow = _follow(request.app.state.access, request.app.state.streams, redis, run_id, token, places)
    # The first line is made here, so that a refusal still has its own status.
    first = await anext(follow)
    return StreamingResponse(
        _after(first, follow),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class OpenStreams:
    """Counts the streams that this process serves; at most `MOST_STREAMS`. For use on its event loop only."""

    def __init__(self) -> None:
        self._open = 0

    def enter(self) -> None:
        """Count one more. Raises a 503 problem at `MOST_STREAMS`."""
        if self._open >= MOST_STREAMS:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"This replica already serves {MOST_STREAMS} event streams, its limit. Try again later.",
                kind="too-many-streams",
                headers={"Retry-After": "5"},
            )
        self._open += 1

    def leave(self) -> None:
        """Count one less."""
        self._open -= 1


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async with aclosing(rest):
        async for piece in rest:
            yield piece


async def _follow(
    access: RedisAccess, open_streams: OpenStreams, redis: Redis, run_id: str, token: str, places: list[str]
) -> AsyncGenerator[bytes]:
    """The lines of the stream. It ends when the token expires or is revoked, or Redis fails: clients then reconnect."""
    open_streams.enter()
    follower = access.asyncio()
    keys = RunKeys(run_id)
    streams = [keys.events, keys.entropy_target_history]
    checked = time.monotonic()
    try:
        yield b": follow\n\n"
        while True:
            reply = await follower.xread(dict(zip(streams, places, strict=True)), BATCH, WAIT_MILLISECONDS)
            if time.monotonic() - checked > WAIT_MILLISECONDS / 1000:
                if await run_in_threadpool(authenticate, redis, run_id, token) is None:
                    return
                checked = time.monotonic()
            if not reply:
                yield b": still here\n\n"
            for name, entries in cast("list[tuple[bytes, list[tuple[bytes, dict]]]]", reply):
                index = streams.index(as_text(name))
                for entry_id, stored in entries:
                    places[index] = as_text(entry_id)
                    kind, data = await run_in_threadpool(
                        _event, redis, run_id, index, places[index], as_fields(stored)
                    )
                    yield f"id: {'_'.join(places)}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
    except (RedisConnectionError, RedisTimeoutError):
        return
    finally:
        open_streams.leave()
        await follower.aclose()


def _event(redis: Redis, run_id: str, index: int, entry_id: str, fields: dict[str, str]) -> tuple[str, Any]:
    if index == 1:
        event = HistoryEvent.model_validate({"id": entry_id, **fields})
        shown = event.model_dump() | {"at": datetime.fromtimestamp(event.at, UTC)}
        return "entropy-target", EntropyTargetEvent.model_validate(shown).model_dump(mode="json")
    if fields["event"] == "step":
        step = int(fields["step"])
        return "step", read_record(redis, run_id, step) or {"step": step}
    if fields["event"] == "evaluation":
        step = int(fields["step"])
        found = [document for document in evaluations(redis, run_id) if document["step"] == step]
        return "evaluation", found[0] if found else {"step": step}
    return fields["event"], {name: value for name, value in fields.items() if name != "event"}


def _ends(redis: Redis, run_id: str) -> list[str]:
    """The id of the newest entry of each stream."""
    keys = RunKeys(run_id)
    ends = []
    for name in (keys.events, keys.entropy_target_history):
        newest = cast("list[tuple[bytes, dict]]", redis.xrevrange(name, count=1))
        ends.append(as_text(newest[0][0]) if newest else "0-0")
    return ends


def _parse(place: str) -> list[str]:
    found = _PLACE.fullmatch(place)
    if found is None:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"header.last-event-id = {place[:80]!r}: must be the id of an event, such as "
            "1700000000000-0_1700000000000-0",
            kind="invalid-request",
            errors=[
                FieldProblem(
                    field="header.last-event-id", value=repr(place[:80]), allowed="the id of an event"
                )
            ],
        )
    return list(found.groups())
