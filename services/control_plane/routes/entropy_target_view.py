"""The entropy-target resource as it is shown, and the wait until a learner step has applied it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from fastapi.concurrency import run_in_threadpool
from redis import Redis

from services.control_plane.schemas.entropy_target import (
    ConfiguredTarget,
    EntropyTarget,
    EntropyTargetMetadata,
    EntropyTargetSpec,
    EntropyTargetStatus,
)
from services.entropy_target.documents import Applied, SetPoint
from services.entropy_target.store import read_applied
from trainer.config import EntropyControlConfig

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


async def settled(
    redis: Redis, run_id: str, set_point: SetPoint, control: EntropyControlConfig, timeout: float
) -> EntropyTarget:
    """Poll, ever more slowly, until `set_point` is applied or superseded, at most `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        applied = await run_in_threadpool(read_applied, redis, run_id)
        target = resource(run_id, set_point, applied, control)
        remaining = deadline - time.monotonic()
        if target.status.state != "pending" or remaining <= 0:
            return target
        await asyncio.sleep(min(pause, remaining))
        pause = min(2 * pause, _LONGEST_PAUSE)


def resource(
    run_id: str, set_point: SetPoint, applied: Applied | None, control: EntropyControlConfig
) -> EntropyTarget:
    in_force = applied.generation if applied else 0
    if in_force == set_point.generation:
        state = "applied"
    else:
        state = "superseded" if in_force > set_point.generation else "pending"
    return EntropyTarget(
        spec=EntropyTargetSpec(
            target=set_point.target,
            over_steps=set_point.over_steps,
            configured=ConfiguredTarget(
                target=control.target,
                auto_fraction=control.auto_fraction,
                schedule=control.schedule.model_dump(mode="json"),
            ),
        ),
        status=EntropyTargetStatus(
            state=state,
            generation=applied.generation if applied else None,
            applied_from_step=applied.step if applied else None,
            applied_at=datetime.fromtimestamp(applied.at, UTC) if applied else None,
            target=applied.target if applied else None,
            step=applied.target_step if applied else None,
            starting_entropy=set_point.starting_entropy,
        ),
        metadata=EntropyTargetMetadata(
            run_id=run_id,
            generation=set_point.generation,
            updated_by=set_point.updated_by,
            updated_at=datetime.fromtimestamp(set_point.updated_at, UTC),
            source=set_point.source,
        ),
    )
