"""The entropy target in Redis: desired state with a generation number, shared by control plane and learner.

The desired state is either the configured schedule (`trainer.entropy_control.schedule`) or a target that a person set.
The control plane changes it. The learner's rank 0 reads it at each step boundary and records from which step a
generation holds and which target is in force; a schedule changes the target without a new generation. Each change of
state is one Lua script, so that the document and its history always agree, and Redis's clock is the only clock. Targets
are nats per token, times are seconds since the epoch. The functions block; asynchronous callers use
`asyncio.to_thread`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from services.entropy_target.documents import (
    UNCONDITIONAL,
    Applied,
    ChangeConditions,
    DesiredTarget,
    HistoryEvent,
    NoTargetSet,
    Repeated,
    StaleGeneration,
    TargetRefused,
    document,
    target_in_reply,
)
from services.redis.fencing import call_fenced
from services.redis.idempotency import KEPT_SECONDS, IdempotentRequest, KeyReused
from services.redis.keys import RunKeys
from services.redis.query import Read, as_text, command, fetch
from services.redis.scripts import script_text
from services.redis.streams import newest_entries_read
from services.run.control import Refused
from trainer.config import EntropyControlConfig
from trainer.entropy_control.schedule import Schedule

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script


def initialise_entropy_target(redis: Redis, run_id: str) -> bool:
    """Write generation 1, the configured schedule; a resumed run keeps its target.

    Returns whether it was written.
    """
    keys = RunKeys(run_id)
    return bool(_script(redis, "initialise")(keys=[keys.entropy_target, keys.entropy_target_history]))


def read_entropy_target(redis: Redis, run_id: str) -> DesiredTarget | None:
    """The desired entropy target, or None for a run that has none."""
    return fetch(redis, entropy_target_read(run_id))


def entropy_target_read(run_id: str) -> Read[DesiredTarget | None]:
    """`read_entropy_target` as a `Read`."""
    return command(lambda stored: document(DesiredTarget, stored), "HGETALL", RunKeys(run_id).entropy_target)


def read_applied(redis: Redis, run_id: str) -> Applied | None:
    """The generation in force, or None before the first step boundary."""
    return fetch(redis, applied_read(run_id))


def applied_read(run_id: str) -> Read[Applied | None]:
    """`read_applied` as a `Read`."""
    return command(
        lambda stored: document(Applied, stored), "HGETALL", RunKeys(run_id).entropy_target_applied
    )


def change_entropy_target(
    redis: Redis,
    run_id: str,
    target: float | None,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
    over_steps: int | None = 0,
    conditions: ChangeConditions = UNCONDITIONAL,
) -> DesiredTarget:
    """Set a new target under the next generation, within the limits of the run's `entropy_control` block.

    target: nats per token; holds until the next change or `reset_entropy_target`. over_steps: learner steps of the
    linear ramp to it. None for either: that of the document. `target_max_change` limits the distance from the current
    target, read in the same transaction: the one set last or, while the configured schedule is in effect, the one in
    force. Before `target=auto` is measured there is no current target, and any target in range is accepted.

    Raises:
        TargetRefused: outside `target_min..target_max`, further than `target_max_change` from the current
            target, or nothing tracks it: the run has no entropy control, and `regularizer_tracks` is false.
        NoTargetSet: `target` is None, and the configured schedule is in effect.
        StaleGeneration: the newest generation is not among `conditions.generations`.
        Repeated: `conditions.request` was accepted before.
        KeyReused: the idempotency key of `conditions.request` belongs to another request.
        Refused: the run has ended or is stopping, so that no learner step would apply it.
        LookupError: the run has no entropy target document.
    """
    _refuse_without_control(control, target, regularizer_tracks)
    if target is not None and not control.target_min <= target <= control.target_max:
        allowed = f"it must lie in [{control.target_min:g}, {control.target_max:g}] nats per token"
        raise TargetRefused("range", target, allowed)
    largest = control.target_max_change
    first = "" if control.target == "auto" else repr(Schedule(control, None).target_at(0))
    kept = ("" if value is None else repr(value) for value in (target, over_steps))
    outcome, reply = _change(redis, run_id, "change", updated_by, conditions, *kept, repr(largest), first)
    if outcome == "too far":
        now = float(reply)
        low, high = max(now - largest, control.target_min), min(now + largest, control.target_max)
        allowed = (
            f"one request may change it by at most {largest:g} from {now:g} nats per token, "
            f"so it must lie in [{low:g}, {high:g}]"
        )
        raise TargetRefused("change", target, allowed)
    return target_in_reply(reply)


def reset_entropy_target(
    redis: Redis,
    run_id: str,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
    conditions: ChangeConditions = UNCONDITIONAL,
) -> DesiredTarget:
    """Return to the configured schedule under the next generation; does nothing if it is in effect already.

    `target_max_change` does not limit this change: the schedule was accepted as a whole.

    Raises:
        TargetRefused: nothing in the run tracks an entropy target.
        StaleGeneration, Repeated, KeyReused, Refused, LookupError: as `change_entropy_target`.
    """
    _refuse_without_control(control, None, regularizer_tracks)
    return target_in_reply(_change(redis, run_id, "reset", updated_by, conditions)[1])


def mark_applied(
    redis: Redis,
    run_id: str,
    generation: int,
    step: int,
    epoch: int,
    target: float | None = None,
    start: float | None = None,
) -> bool:
    """Record that `generation` holds from learner step `step` on, and that `target` is in force at `step`.

    target: nats per token; None without entropy control and before `auto` is measured. start: the target in force
    before, from which a ramp starts. Idempotent; returns whether the generation or an earlier step of it
    was recorded. Generations between the one in force and this one are recorded as superseded. After a rollback the
    same generation may hold from an earlier step: that step is recorded.

    Raises:
        FencedError: `epoch` is not that of the newest learner incarnation.
        LookupError: no such generation.
    """
    keys = RunKeys(run_id)
    names = [
        keys.entropy_target,
        keys.entropy_target_applied,
        keys.entropy_target_history,
        keys.entropy_target_steps,
    ]
    texts = ("" if value is None else repr(value) for value in (target, start))
    reply = call_fenced(_script(redis, "mark_applied"), keys.fence, epoch, names, [generation, step, *texts])
    outcome, *values = cast("list[Any]", reply)
    if outcome == b"unknown":
        raise LookupError(f"entropy target generation {generation} does not exist; the newest is {values[0]}")
    return outcome == b"applied"


def record_starting_entropy(redis: Redis, run_id: str, entropy: float, epoch: int) -> None:
    """Record the entropy of the run's first learner step, nats per token.

    Raises FencedError when `epoch` is not that of the newest learner incarnation.
    """
    keys, record = RunKeys(run_id), _script(redis, "record_starting_entropy")
    call_fenced(record, keys.fence, epoch, [keys.entropy_target], [repr(entropy)])


def history_read(run_id: str, limit: int, *, before: str | None = None) -> Read[list[HistoryEvent]]:
    """The newest `limit` events, newest first; only those older than the event `before`, if given."""
    found = newest_entries_read(RunKeys(run_id).entropy_target_history, limit, before)
    return found.map(
        lambda entries: [HistoryEvent.model_validate({"id": name, **fields}) for name, fields in entries]
    )


def _script(redis: Redis, name: str) -> Script:
    return redis.register_script(script_text("services.entropy_target", name))


def _change(
    redis: Redis, run_id: str, name: str, updated_by: str, conditions: ChangeConditions, *arguments: str
) -> tuple[str, Any]:
    """Run the script `name`, which includes `conditions.lua`; returns the outcome and its value."""
    keys, accepted = RunKeys(run_id), conditions.generations
    generations = "*" if accepted is None else ",".join(map(str, sorted(accepted)))
    request = conditions.request or IdempotentRequest(keys.idempotency("none"), "", 0.0)
    names = [
        *(keys.entropy_target, keys.entropy_target_applied, keys.entropy_target_history, request.record),
        *(keys.audit, keys.status, keys.control),
    ]
    given = (updated_by, generations, request.digest, repr(request.seconds), KEPT_SECONDS, conditions.origin)
    reply = _script(redis, name)(keys=names, args=[*given, *arguments])
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "missing":
            raise LookupError(f"run {run_id!r} has no entropy target")
        case "reused":
            raise KeyReused
        case "ended":
            raise Refused(as_text(values[0]))
        case "again":
            raise Repeated(target_in_reply(values[0]))
        case "stale":
            raise StaleGeneration(target_in_reply(values[0]))
        case "no target":
            raise NoTargetSet
        case outcome:
            return outcome, values[0]


def _refuse_without_control(control: EntropyControlConfig, target: float | None, regularizer: bool) -> None:
    if control.kind == "none" and not regularizer:
        raise TargetRefused(
            "no_control",
            target,
            "the run has entropy_control.kind=none and no regularizer that steers towards an entropy target",
        )
