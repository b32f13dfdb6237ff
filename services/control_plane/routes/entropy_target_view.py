"""The entropy-target resource, and the wait until a learner step has applied a change."""

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
from services.entropy_target.documents import Applied, DesiredTarget
from services.entropy_target.store import read_applied
from trainer.config import EntropyControlConfig

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


async def settled(
    redis: Redis, run_id: str, entropy_target: DesiredTarget, control: EntropyControlConfig, timeout: float
) -> EntropyTarget:
    """Poll with growing intervals until `entropy_target` is applied or superseded, for at most `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        applied = await run_in_threadpool(read_applied, redis, run_id)
        target = resource(run_id, entropy_target, applied, control)
        remaining = deadline - time.monotonic()
        if target.status.state != "pending" or remaining <= 0:
            return target
        await asyncio.sleep(min(pause, remaining))
        pause = min(2 * pause, _LONGEST_PAUSE)


def resource(
    run_id: str, entropy_target: DesiredTarget, applied: Applied | None, control: EntropyControlConfig
) -> EntropyTarget:
    """The resource, from the desired state, the state applied by the learner, and the configuration."""
    in_force = applied.generation if applied else 0
    if in_force == entropy_target.generation:
        state = "applied"
    else:
        state = "superseded" if in_force > entropy_target.generation else "pending"
    return EntropyTarget(
        spec=EntropyTargetSpec(
            target=entropy_target.target,
            over_steps=entropy_target.over_steps,
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
            starting_entropy=entropy_target.starting_entropy,
        ),
        metadata=EntropyTargetMetadata(
            run_id=run_id,
            generation=entropy_target.generation,
            updated_by=entropy_target.updated_by,
            updated_at=datetime.fromtimestamp(entropy_target.updated_at, UTC),
            source=entropy_target.source,
        ),
    )
