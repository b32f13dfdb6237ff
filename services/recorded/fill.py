"""Fills a Redis with recorded runs, so that the control plane shows them as it shows a live one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from services.entropy_target.store import initialise_entropy_target
from services.recorded.recorded_run import MOST_ROLLOUTS, RecordedRun
from services.recorded.saved_state import restore
from services.records.redis_records import load_records
from services.records.sampled_rollouts import add_rollouts
from services.redis.access import RedisAccess
from services.redis.embedded import EmbeddedRedis
from services.redis.keys import RunKeys
from services.run.state import add_evaluation, initialise_run, update_status
from trainer.config import RedisConfig
from trainer.errors import ScopeError


@contextmanager
def redis_of(runs: Sequence[RecordedRun]) -> Iterator[RedisAccess]:
    """A private, temporary Redis that holds the runs. Raises ScopeError when one of them does not fit into it."""
    with TemporaryDirectory(prefix="scope-view-") as folder:
        place = Path(folder)
        server = EmbeddedRedis(RedisConfig(), data_dir=place / "data", state_dir=place / "state")
        with server, server.access.sync() as redis:
            for run in runs:
                try:
                    fill(redis, run)
                except RedisError as error:
                    raise ScopeError(f"The records of the run in {run.path} are damaged: {error}.") from error
            yield server.access


def fill(redis: Redis, run: RecordedRun) -> None:
    """Write the run into Redis under `run.run_id`. Raises RedisError."""
    run_id, keys = run.run_id, RunKeys(run.run_id)
    initialise_entropy_target(redis, run_id)
    initialise_run(redis, run_id, run.spec)
    load_records(redis, run_id, run.records)
    for step, pass_at_k in run.evaluations.items():
        add_evaluation(redis, run_id, step, pass_at_k)
    add_rollouts(redis, run_id, run.rollouts, MOST_ROLLOUTS)
    newest = msgspec.to_builtins(run.records[-1], str_keys=True) if run.records else None
    update_status(redis, run_id, phase=run.phase, step=run.step, of=run.of, record=newest, error=run.error)
    restore(redis, run_id, run.state)
    saved = run.state.hashes.get("status", {})
    times: dict[Any, Any] = {
        "heartbeat": repr(run.seen_at),
        "phase_since": saved.get("phase_since", repr(run.seen_at)),
    }
    redis.hset(keys.status, mapping=times)
