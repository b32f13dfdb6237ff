"""The state of a run in Redis: its spec, its status, its evaluations.

The driver and the learner write it, every process reads it. Requests are in `services.run.control`, the entropy target
in `services.entropy_target.store`. Times are seconds since the epoch by Redis's clock. The functions block;
asynchronous callers use `asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from services.redis.fencing import call_fenced
from services.redis.keys import RUN_INDEX, RunKeys
from services.redis.query import Read, as_fields, as_text, combine, command, fetch
from services.redis.scripts import script_text
from services.run.ids import is_run_id
from services.run.phases import ENDED, Phase
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from redis import Redis

STALE_SECONDS = 30.0
"""silence of driver and learner from which on a run that has not ended is stale; the learner sends every 10 seconds"""

EVENTS_KEPT = 10_000
"""newest entries of a run's stream of events"""


class RunSpec(BaseModel):
    """The specification of a run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    config: dict[str, Any]
    """the whole configuration tree, plain data"""
    config_hash: str
    started_at: float
    """when this incarnation started, seconds since the epoch"""
    versions: dict[str, str]
    """package name → version"""
    recorded_at: float | None = None
    """for a run that is shown from its files: when they were last written, seconds since the epoch; None: it is live"""


class DamagedDocument(Exception):
    """A document of a run in Redis does not have the form that this version writes."""


class RunStatus(BaseModel):
    """The phase and progress of a run."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    phase_since: float | None = None
    """when the phase began, seconds since the epoch"""
    phase_detail: str | None = None
    """how far the phase is, for people: `1 of 2 ready`"""
    step: int
    """learner steps done"""
    of: int
    """learner steps to do"""
    record: dict[str, Any] | None = None
    """the newest step record; a number that is not finite is null"""
    heartbeat: float
    """when the driver or the learner last wrote, seconds since the epoch"""
    evaluation: dict[str, Any] | None = None
    """the held-out results stored last: `step` and `pass_at_k`"""
    error: str | None = None

    def is_stale(self, now: float) -> bool:
        """Whether the run has not ended but is silent. now: seconds since the epoch, by Redis's clock."""
        return self.phase not in ENDED and now - self.heartbeat > STALE_SECONDS


def initialise_run(redis: Redis, run_id: str, spec: RunSpec) -> None:
    """Register a run in the phase `starting`, at its first start and at every resumption.

    Writes the spec, resets the desired state to `run`, and deletes requested checkpoints, the heartbeats of earlier
    generators and the last error. Raises `ScopeError` for a bad run id. The driver also calls
    `services.entropy_target.store.initialise_entropy_target`.
    """
    if not is_run_id(run_id):
        raise ScopeError(
            f"run id = {run_id!r} is not allowed: it must be 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit."
        )
    keys = RunKeys(run_id)
    steps_done = redis.hget(keys.status, "step")
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(keys.spec, spec.model_dump_json())
        pipeline.set(keys.control, "run")
        pipeline.delete(keys.generators, keys.checkpoints)
        pipeline.hdel(keys.status, "error", "announced")
        pipeline.execute()
    update_status(
        redis,
        run_id,
        phase="starting",
        step=int(cast("bytes", steps_done or 0)),
        of=int(spec.config["steps"]),
    )
    redis.sadd(RUN_INDEX, run_id)


def run_ids(redis: Redis) -> list[str]:
    """The ids of every run in this Redis, sorted."""
    return sorted(as_text(run_id) for run_id in cast("set[bytes]", redis.smembers(RUN_INDEX)))


def read_spec(redis: Redis, run_id: str) -> RunSpec | None:
    """The spec of a run; None for an unknown run. Raises `DamagedDocument`."""
    return fetch(redis, spec_read(run_id))


def spec_read(run_id: str) -> Read[RunSpec | None]:
    """`read_spec` as a `Read`."""
    return command(
        lambda stored: None if stored is None else _spec(run_id, stored), "GET", RunKeys(run_id).spec
    )


# A spec is long and rarely changes. The cache is keyed by the stored text, so that a change is seen at once.
@lru_cache(maxsize=512)
def _spec(run_id: str, stored: bytes) -> RunSpec:
    try:
        return RunSpec.model_validate_json(stored)
    except ValidationError as error:
        raise DamagedDocument(f"the description of the run {run_id!r} cannot be read") from error


def update_status(
    redis: Redis,
    run_id: str,
    *,
    phase: Phase | None = None,
    detail: str | None = None,
    step: int | None = None,
    of: int | None = None,
    record: Mapping[str, Any] | None = None,
    error: str | None = None,
    epoch: int | None = None,
) -> None:
    """Write the given fields, if any, and renew the heartbeat.

    detail: how far the phase is; a phase without one clears the earlier one.
    epoch: of the learner incarnation that writes; None for the driver. Raises FencedError when `epoch` is not that of
    the newest incarnation.
    """
    given = {"phase": phase, "step": step, "of": of, "error": error}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if phase is not None:
        fields["phase_detail"] = detail or ""
    if record is not None:
        fields["record"] = to_json(record)
    keys, update = RunKeys(run_id), redis.register_script(script_text("services.run", "update_status"))
    names = [keys.status, keys.events]
    arguments = [EVENTS_KEPT, *(part for pair in fields.items() for part in pair)]
    if epoch is None:
        update(keys=[keys.fence, *names], args=["", *arguments])
    else:
        call_fenced(update, keys.fence, epoch, names, arguments)


def read_status(redis: Redis, run_id: str) -> RunStatus | None:
    """The status of a run; None for an unknown run. Raises `DamagedDocument`."""
    return fetch(redis, status_read(run_id))


def status_read(run_id: str) -> Read[RunStatus | None]:
    """`read_status` as a `Read`."""
    return command(lambda stored: _status(run_id, stored), "HGETALL", RunKeys(run_id).status)


def _status(run_id: str, stored: dict[bytes, bytes]) -> RunStatus | None:
    if not stored:
        return None
    fields: dict[str, Any] = as_fields(stored)
    fields["phase_detail"] = fields.get("phase_detail") or None
    try:
        for name in ("record", "evaluation"):
            if name in fields:
                fields[name] = msgspec.json.decode(fields[name])
        return RunStatus.model_validate(fields)
    except (ValidationError, msgspec.DecodeError) as error:
        raise DamagedDocument(f"the status of the run {run_id!r} cannot be read") from error


def documents_read(run_id: str) -> Read[tuple[RunSpec | None, RunStatus | None]]:
    """`read_spec` and `read_status` as one `Read`."""
    return combine(spec_read(run_id), status_read(run_id)).map(lambda found: (found[0], found[1]))


def add_evaluation(redis: Redis, run_id: str, step: int, pass_at_k: Mapping[int, float]) -> None:
    """Store the held-out results of the policy after `step` learner steps; they replace earlier ones of that step."""
    keys = RunKeys(run_id)
    document = to_json({"step": step, "pass_at_k": {str(k): value for k, value in pass_at_k.items()}})
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.evaluations, str(step), document)
        pipeline.hset(keys.status, "evaluation", document)
        pipeline.xadd(
            keys.events, {"event": "evaluation", "step": step}, maxlen=EVENTS_KEPT, approximate=True
        )
        pipeline.execute()


def evaluations(redis: Redis, run_id: str) -> list[dict[str, Any]]:
    """Every evaluation by step: `step` and `pass_at_k`."""
    return fetch(redis, evaluations_read(run_id))


def evaluations_read(run_id: str) -> Read[list[dict[str, Any]]]:
    """`evaluations` as a `Read`."""

    def parse(stored: dict[bytes, bytes]) -> list[dict[str, Any]]:
        return sorted(map(msgspec.json.decode, stored.values()), key=lambda found: found["step"])

    return command(parse, "HGETALL", RunKeys(run_id).evaluations)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Encode as JSON, with null for a number that is not finite, so that every JSON parser reads it."""
    return msgspec.json.encode(document)
