"""The entropy set-point: desired state with a generation number, between control plane and learner, in Redis.

It says that the configured schedule decides (`trainer.control.schedule`), or which target a person set instead.
The control plane changes it; the learner's rank 0 reads it at a step boundary and marks from which step it holds,
and at every step which target is in force: a schedule that moves makes no generations. Each change of state is one
Lua script, so that the document and its history never disagree, and the server's clock is the only clock. Targets
are nats per token, times are seconds since the epoch. Asynchronous callers use `asyncio.to_thread`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict
from redis import Redis

from services import set_point_scripts as scripts
from services.fencing import FencedError
from services.keys import RunKeys
from services.replies import as_fields, as_text
from trainer.config import EntropyControlConfig
from trainer.control.schedule import Schedule

_Model = TypeVar("_Model", bound=BaseModel)


class SetPoint(BaseModel):
    """The desired set-point."""

    model_config = ConfigDict(frozen=True)

    generation: int
    """at least 1; one more for every accepted change"""
    source: Literal["configuration", "api"]
    """what decides: the configured schedule, or the target that was set over REST"""
    target: float | None = None
    """of `api`, nats per token"""
    updated_by: str
    updated_at: float
    """seconds since the epoch"""
    starting_entropy: float | None = None
    """of the run's first learner step, nats per token; what `entropy_control.target=auto` is a share of"""


class Applied(BaseModel):
    """The generation in force, and since which learner step of the surviving lineage it is."""

    model_config = ConfigDict(frozen=True)

    generation: int
    step: int
    at: float
    """seconds since the epoch"""
    target: float | None = None
    """in force at `target_step`, nats per token; None without entropy control and before `auto` is measured"""
    target_step: int | None = None
    """the newest learner step that began"""


class HistoryEvent(BaseModel):
    """One entry of the append-only history of a run's set-point."""

    model_config = ConfigDict(frozen=True)

    id: str
    """stream id: orders the events and resumes a listing"""
    event: Literal["changed", "applied", "superseded"]
    generation: int
    at: float
    target: float | None = None
    """of `changed`, nats per token; None where it went to the configured schedule"""
    by: str | None = None
    """of `changed`: who; of `superseded`: the generation that was applied instead"""
    step: int | None = None
    """of `applied` and `superseded`: the learner step"""


class SetPointRefused(Exception):
    """A change that the run's limits do not allow; the document stays as it was."""

    def __init__(
        self, reason: Literal["range", "change", "no_control"], value: float | None, allowed: str
    ) -> None:
        self.reason, self.value, self.allowed = reason, value, allowed
        super().__init__(allowed if value is None else f"target = {value!r} is not allowed: {allowed}")


def initialise_set_point(redis: Redis, run_id: str) -> bool:
    """Write generation 1, by which the configuration decides, unless a document is live (a resumed run keeps it).

    Returns whether it was written.
    """
    keys = RunKeys(run_id)
    return bool(redis.eval(scripts.INITIALISE, 2, keys.set_point, keys.set_point_history))


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

    It holds until the next change or `reset_set_point`. The limit on the change holds against the target at that
    instant, also between two callers at once: the one set last or, while the configured schedule decides, the one
    in force. While `target=auto` is not measured yet there is none, and any target in range is accepted.

    Raises:
        SetPointRefused: outside `target_min..target_max`, further than `target_max_change` from the target
            now, or nothing steers towards it: no entropy control, and `regularizer_tracks` is false.
        LookupError: the run has no set-point document.
    """
    _refuse_without_control(control, target, regularizer_tracks)
    if not control.target_min <= target <= control.target_max:
        allowed = f"it must lie in [{control.target_min:g}, {control.target_max:g}] nats per token"
        raise SetPointRefused("range", target, allowed)
    keys = RunKeys(run_id)
    largest = control.target_max_change
    first = "" if control.target == "auto" else repr(Schedule(control, None).target_at(0))
    names = (keys.set_point, keys.set_point_applied, keys.set_point_history)
    reply = redis.eval(scripts.CHANGE, len(names), *names, repr(target), updated_by, repr(largest), first)
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "missing":
            raise LookupError(f"run {run_id!r} has no set-point")
        case "too far":
            now = float(values[0])
            low, high = max(now - largest, control.target_min), min(now + largest, control.target_max)
            allowed = (
                f"one request may change it by at most {largest:g} from {now:g} nats per token, "
                f"so it must lie in [{low:g}, {high:g}]"
            )
            raise SetPointRefused("change", target, allowed)
        case _:
            return _reply_document(values[0])


def reset_set_point(
    redis: Redis,
    run_id: str,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
) -> SetPoint:
    """Let the configured schedule decide again, under the next generation; nothing happens where it does already.

    `target_max_change` does not limit the way back: the schedule was accepted as a whole.

    Raises:
        SetPointRefused: nothing steers towards a set-point.
        LookupError: the run has no set-point document.
    """
    _refuse_without_control(control, None, regularizer_tracks)
    keys = RunKeys(run_id)
    reply = redis.eval(scripts.RESET, 2, keys.set_point, keys.set_point_history, updated_by)
    outcome, *values = cast("list[Any]", reply)
    if as_text(outcome) == "missing":
        raise LookupError(f"run {run_id!r} has no set-point")
    return _reply_document(values[0])


def mark_applied(
    redis: Redis, run_id: str, generation: int, step: int, epoch: int, target: float | None = None
) -> bool:
    """Record that `generation` holds from learner step `step` on, and that `target` is in force at `step`.

    Idempotent; returns whether the generation was news. target: nats per token, None where there is none (yet).
    A generation between the one in force and this one is recorded as superseded. After a rollback the same
    generation may hold from an earlier step: the earlier step is then recorded.

    Raises:
        FencedError: `epoch` is not the learner incarnation that may write.
        LookupError: no such generation.
    """
    keys = RunKeys(run_id)
    names = (keys.set_point, keys.set_point_applied, keys.set_point_history, keys.fence)
    shown = "" if target is None else repr(target)
    reply = redis.eval(scripts.MARK_APPLIED, len(names), *names, generation, step, epoch, shown)
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "fenced":
            raise FencedError(epoch=epoch, current=int(values[0]))
        case "unknown":
            raise LookupError(f"set-point generation {generation} does not exist; the newest is {values[0]}")
        case verdict:
            return verdict == "applied"


def record_starting_entropy(redis: Redis, run_id: str, entropy: float, epoch: int) -> None:
    """Record the entropy of the run's first learner step, nats per token.

    Raises FencedError when `epoch` is not the learner incarnation that may write.
    """
    keys = RunKeys(run_id)
    reply = redis.eval(scripts.RECORD_STARTING_ENTROPY, 2, keys.set_point, keys.fence, repr(entropy), epoch)
    outcome, *values = cast("list[Any]", reply)
    if as_text(outcome) == "fenced":
        raise FencedError(epoch=epoch, current=int(values[0]))


def history(redis: Redis, run_id: str, limit: int = 100) -> list[HistoryEvent]:
    """The newest `limit` events, newest first."""
    entries = redis.xrevrange(RunKeys(run_id).set_point_history, count=limit)
    return [
        HistoryEvent.model_validate({"id": as_text(entry_id), **as_fields(fields)})
        for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", entries)
    ]


def _refuse_without_control(control: EntropyControlConfig, target: float | None, regularizer: bool) -> None:
    if control.kind == "none" and not regularizer:
        raise SetPointRefused(
            "no_control",
            target,
            "the run has entropy_control.kind=none and no regularizer that steers towards a set-point",
        )


def _reply_document(flat: list[bytes]) -> SetPoint:
    """Of a script's HGETALL: names and values in turn."""
    return SetPoint.model_validate(as_fields(dict(zip(flat[::2], flat[1::2], strict=True))))


def _document(model: type[_Model], stored: Any) -> _Model | None:
    return model.model_validate(as_fields(stored)) if stored else None
