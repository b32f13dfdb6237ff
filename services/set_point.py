"""The entropy set-point: desired state with a generation number, between control plane and learner, in Redis.

The control plane changes it; the learner's rank 0 reads it at a step boundary and marks from which step it
holds. Each change of state is one Lua script, so that the document and its history never disagree, and the
server's clock is the only clock. Targets are nats per token, times are seconds since the epoch. Asynchronous
callers use `asyncio.to_thread`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict
from redis import Redis

from services.fencing import FencedError
from services.keys import RunKeys
from services.replies import as_fields, as_text
from trainer.config import EntropyControlConfig

_NOW = """
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
"""

# KEYS set-point, history; ARGV target
_INITIALISE = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'generation', 1, 'target', ARGV[1], 'updated_by', 'configuration',
           'updated_at', now, 'source', 'configuration')
redis.call('XADD', KEYS[2], '*', 'event', 'changed', 'generation', 1, 'target', ARGV[1],
           'by', 'configuration', 'at', now)
return 1
"""
)

# KEYS set-point, history; ARGV target, updated_by, largest change. Numbers pass through as text: Lua's own
# number formatting keeps only 14 digits.
_CHANGE = (
    _NOW
    + """
local current = redis.call('HGET', KEYS[1], 'target')
if not current then return {'missing'} end
local change = math.abs(tonumber(ARGV[1]) - tonumber(current))
if change > tonumber(ARGV[3]) + 1e-9 then return {'too far', current} end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'target', ARGV[1], 'updated_by', ARGV[2], 'updated_at', now, 'source', 'api')
redis.call('XADD', KEYS[2], '*', 'event', 'changed', 'generation', generation, 'target', ARGV[1],
           'by', ARGV[2], 'at', now)
return {'changed', tostring(generation), now}
"""
)

# KEYS set-point, applied, history, fence; ARGV generation, step, epoch
_MARK_APPLIED = (
    _NOW
    + """
local epoch = tonumber(redis.call('GET', KEYS[4]) or '0')
if tonumber(ARGV[3]) ~= epoch then return {'fenced', epoch} end
local generation, step = tonumber(ARGV[1]), tonumber(ARGV[2])
local newest = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if generation > newest then return {'unknown', newest} end
local applied = tonumber(redis.call('HGET', KEYS[2], 'generation') or '0')
if generation < applied then return {'older', applied} end
if generation == applied and step >= tonumber(redis.call('HGET', KEYS[2], 'step')) then return {'known'} end
for skipped = applied + 1, generation - 1 do
    redis.call('XADD', KEYS[3], '*', 'event', 'superseded', 'generation', skipped, 'by', generation,
               'step', step, 'at', now)
end
redis.call('HSET', KEYS[2], 'generation', generation, 'step', step, 'at', now)
redis.call('XADD', KEYS[3], '*', 'event', 'applied', 'generation', generation, 'step', step, 'at', now)
return {'applied'}
"""
)


_Model = TypeVar("_Model", bound=BaseModel)


class SetPoint(BaseModel):
    """The desired set-point."""

    model_config = ConfigDict(frozen=True)

    generation: int
    """at least 1; one more for every accepted change"""
    target: float
    """nats per token"""
    updated_by: str
    updated_at: float
    """seconds since the epoch"""
    source: Literal["configuration", "api"]


class Applied(BaseModel):
    """The generation in force, and since which learner step of the surviving lineage it is."""

    model_config = ConfigDict(frozen=True)

    generation: int
    step: int
    at: float
    """seconds since the epoch"""


class HistoryEvent(BaseModel):
    """One entry of the append-only history of a run's set-point."""

    model_config = ConfigDict(frozen=True)

    id: str
    """stream id: orders the events and resumes a listing"""
    event: Literal["changed", "applied", "superseded"]
    generation: int
    at: float
    target: float | None = None
    """of `changed`, nats per token"""
    by: str | None = None
    """of `changed`: who; of `superseded`: the generation that was applied instead"""
    step: int | None = None
    """of `applied` and `superseded`: the learner step"""


class SetPointRefused(Exception):
    """A change that the run's limits do not allow; the document stays as it was."""

    def __init__(self, reason: Literal["range", "change", "no_control"], value: float, allowed: str) -> None:
        self.reason, self.value, self.allowed = reason, value, allowed
        super().__init__(f"target = {value!r} is not allowed: {allowed}")


def initialise_set_point(redis: Redis, run_id: str, target: float) -> bool:
    """Write generation 1 from the configuration, unless a document is live (a resumed run keeps it).

    Returns whether it was written.
    """
    keys = RunKeys(run_id)
    return bool(redis.eval(_INITIALISE, 2, keys.set_point, keys.set_point_history, repr(target)))


def read_set_point(redis: Redis, run_id: str) -> SetPoint | None:
    """The desired set-point, or None for a run that has none."""
    return _document(SetPoint, redis.hgetall(RunKeys(run_id).set_point))


def read_applied(redis: Redis, run_id: str) -> Applied | None:
    """The generation in force, or None before the first step boundary."""
    return _document(Applied, redis.hgetall(RunKeys(run_id).set_point_applied))


def change_set_point(
    redis: Redis,
    run_id: str,
    target: float,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
) -> SetPoint:
    """Set a new target under the next generation, within the limits of the run's `entropy_control` block.

    The limit on the change holds against the target at that instant, also between two callers at once.

    Raises:
        SetPointRefused: outside `target_min..target_max`, further than `target_max_change` from the target
            now, or nothing steers towards it: no entropy control, and `regularizer_tracks` is false.
        LookupError: the run has no set-point document.
    """
    if control.kind == "none" and not regularizer_tracks:
        raise SetPointRefused(
            "no_control",
            target,
            "the run has entropy_control.kind=none and no regularizer that steers towards a set-point",
        )
    if not control.target_min <= target <= control.target_max:
        allowed = f"it must lie in [{control.target_min:g}, {control.target_max:g}] nats per token"
        raise SetPointRefused("range", target, allowed)
    keys = RunKeys(run_id)
    largest = control.target_max_change
    reply = redis.eval(
        _CHANGE, 2, keys.set_point, keys.set_point_history, repr(target), updated_by, repr(largest)
    )
    outcome, *values = [as_text(value) for value in cast("list[bytes | str]", reply)]
    if outcome == "missing":
        raise LookupError(f"run {run_id!r} has no set-point")
    if outcome == "too far":
        now = float(values[0])
        low, high = max(now - largest, control.target_min), min(now + largest, control.target_max)
        allowed = (
            f"one request may change it by at most {largest:g} from {now:g} nats per token, "
            f"so it must lie in [{low:g}, {high:g}]"
        )
        raise SetPointRefused("change", target, allowed)
    generation, at = int(values[0]), float(values[1])
    return SetPoint(generation=generation, target=target, updated_by=updated_by, updated_at=at, source="api")


def mark_applied(redis: Redis, run_id: str, generation: int, step: int, epoch: int) -> bool:
    """Record that `generation` holds from learner step `step` on. Idempotent; returns whether it was news.

    A generation between the one in force and this one is recorded as superseded. After a rollback the same
    generation may hold from an earlier step: the earlier step is then recorded.

    Raises:
        FencedError: `epoch` is not the learner incarnation that may write.
        LookupError: no such generation.
    """
    keys = RunKeys(run_id)
    names = (keys.set_point, keys.set_point_applied, keys.set_point_history, keys.fence)
    reply = redis.eval(_MARK_APPLIED, len(names), *names, generation, step, epoch)
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "fenced":
            raise FencedError(epoch=epoch, current=int(values[0]))
        case "unknown":
            raise LookupError(f"set-point generation {generation} does not exist; the newest is {values[0]}")
        case verdict:
            return verdict == "applied"


def history(redis: Redis, run_id: str, limit: int = 100) -> list[HistoryEvent]:
    """The newest `limit` events, newest first."""
    entries = redis.xrevrange(RunKeys(run_id).set_point_history, count=limit)
    return [
        HistoryEvent.model_validate({"id": as_text(entry_id), **as_fields(fields)})
        for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", entries)
    ]


def _document(model: type[_Model], stored: Any) -> _Model | None:
    return model.model_validate(as_fields(stored)) if stored else None
