"""The state of a run that crosses processes, in Redis: what it is and how it goes.

Written by the driver and the learner (spec, status) and the generators (heartbeats); read by all. What is asked of
it is in `services.run.control` and `services.entropy_target.store`. Times are seconds since the epoch by the
server's clock. Asynchronous callers use `asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from services.entropy_target.store import initialise_entropy_target
from services.redis.fencing import FencedError
from services.redis.keys import RUN_INDEX, RunKeys
from services.redis.query import Read, as_fields, as_text, fetch, one, together
from services.run.ids import is_run_id
from trainer.errors import ScopeError

if TYPE_CHECKING:
    from redis import Redis

Phase = Literal["starting", "warm_start", "running", "paused", "stopping", "finished", "failed"]

EVENTS_KEPT = 10_000
"""newest entries of a run's stream of events"""

_UPDATE = f"""
if ARGV[1] ~= '' then
    local epoch = tonumber(redis.call('GET', KEYS[3]) or '0')
    if epoch ~= tonumber(ARGV[1]) then return {{'fenced', epoch}} end
end
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'heartbeat', string.format('%d.%06d', clock[1], clock[2]), unpack(ARGV, 2))
local phase = redis.call('HGET', KEYS[1], 'phase')
if phase and phase ~= redis.call('HGET', KEYS[1], 'announced') then
    redis.call('HSET', KEYS[1], 'announced', phase)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'event', 'phase', 'phase', phase)
end
return {{'done'}}
"""
"""An event for each change of phase, and not for each time that it is written."""


class RunSpec(BaseModel):
    """What a run is."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    config: dict[str, Any]
    """the whole configuration tree, plain data"""
    config_hash: str
    started_at: float
    """of this incarnation, seconds since the epoch"""
    versions: dict[str, str]
    """package name → version"""


class DamagedDocument(Exception):
    """What Redis holds of a run is not what this software writes."""


class RunStatus(BaseModel):
    """How a run goes."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    step: int
    """learner steps done"""
    of: int
    """learner steps to do"""
    record: dict[str, Any] | None = None
    """the newest step record; a number that is not finite is null"""
    heartbeat: float
    """when the driver or the learner last wrote, seconds since the epoch"""
    error: str | None = None


def initialise_run(redis: Redis, run_id: str, spec: RunSpec) -> None:
    """Make a run known as `starting`, at its first start and at every resumption.

    Writes the spec, forgets a requested stop and the heartbeats of generators that are gone, and writes
    generation 1 of the entropy target, the configured schedule, unless a target is live already. Raises `ScopeError`
    for a bad run id.
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
        pipeline.hdel(keys.status, "error")
        pipeline.execute()
    initialise_entropy_target(redis, run_id)
    update_status(
        redis,
        run_id,
        phase="starting",
        step=int(cast("bytes", steps_done or 0)),
        of=int(spec.config["steps"]),
    )
    redis.sadd(RUN_INDEX, run_id)


def run_ids(redis: Redis) -> list[str]:
    """Every run this Redis knows, sorted."""
    return sorted(as_text(run_id) for run_id in cast("set[bytes]", redis.smembers(RUN_INDEX)))


def read_spec(redis: Redis, run_id: str) -> RunSpec | None:
    """What the run is; None for an unknown run. Raises `DamagedDocument`."""
    return fetch(redis, spec_read(run_id))


def spec_read(run_id: str) -> Read[RunSpec | None]:
    """The read of `read_spec`."""
    return one(lambda stored: None if stored is None else _spec(run_id, stored), "GET", RunKeys(run_id).spec)


# A spec is long and hardly ever changes; by its text, so that what is returned is what was read.
@lru_cache(maxsize=64)
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
    step: int | None = None,
    of: int | None = None,
    record: Mapping[str, Any] | None = None,
    error: str | None = None,
    epoch: int | None = None,
) -> None:
    """Write the fields given, leave the others, and renew the heartbeat (alone, if none is given).

    epoch: of the learner incarnation that writes. Raises FencedError when there is a newer one.
    """
    given = {"phase": phase, "step": step, "of": of, "error": error}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if record is not None:
        fields["record"] = _json(record)
    keys = RunKeys(run_id)
    names = (keys.status, keys.events, keys.fence)
    flat = [part for pair in fields.items() for part in pair]
    reply = redis.eval(_UPDATE, len(names), *names, "" if epoch is None else epoch, *flat)
    outcome, *current = cast("list[Any]", reply)
    if epoch is not None and as_text(outcome) == "fenced":
        raise FencedError(epoch=epoch, current=int(current[0]))


def read_status(redis: Redis, run_id: str) -> RunStatus | None:
    """How the run goes; None for an unknown run. Raises `DamagedDocument`."""
    return fetch(redis, status_read(run_id))


def status_read(run_id: str) -> Read[RunStatus | None]:
    """The read of `read_status`."""
    return one(lambda stored: _status(run_id, stored), "HGETALL", RunKeys(run_id).status)


def _status(run_id: str, stored: dict[bytes, bytes]) -> RunStatus | None:
    if not stored:
        return None
    fields: dict[str, Any] = as_fields(stored)
    try:
        if "record" in fields:
            fields["record"] = msgspec.json.decode(fields["record"])
        return RunStatus.model_validate(fields)
    except (ValidationError, msgspec.DecodeError) as error:
        raise DamagedDocument(f"the status of the run {run_id!r} cannot be read") from error


def documents_read(run_id: str) -> Read[tuple[RunSpec | None, RunStatus | None]]:
    """The read of `read_spec` and `read_status`."""
    return together(spec_read(run_id), status_read(run_id)).then(lambda found: (found[0], found[1]))


def add_evaluation(redis: Redis, run_id: str, step: int, pass_at_k: Mapping[int, float]) -> None:
    """Show the held-out results of the policy after `step` learner steps; earlier ones of that step are replaced."""
    keys = RunKeys(run_id)
    document = {"step": step, "pass_at_k": {str(k): value for k, value in pass_at_k.items()}}
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.evaluations, str(step), _json(document))
        pipeline.xadd(
            keys.events, {"event": "evaluation", "step": step}, maxlen=EVENTS_KEPT, approximate=True
        )
        pipeline.execute()


def evaluations(redis: Redis, run_id: str) -> list[dict[str, Any]]:
    """Every evaluation by step: `step` and `pass_at_k`."""
    return fetch(redis, evaluations_read(run_id))


def evaluations_read(run_id: str) -> Read[list[dict[str, Any]]]:
    """The read of `evaluations`."""

    def parse(stored: dict[bytes, bytes]) -> list[dict[str, Any]]:
        return sorted(map(msgspec.json.decode, stored.values()), key=lambda found: found["step"])

    return one(parse, "HGETALL", RunKeys(run_id).evaluations)


def _json(document: Mapping[str, Any]) -> bytes:
    # msgspec writes a number that is not finite as null, which keeps the text JSON for every reader.
    return msgspec.json.encode(document)
