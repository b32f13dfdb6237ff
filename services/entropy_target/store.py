"""The entropy target: desired state with a generation number, between control plane and learner, in Redis.

It says that the configured schedule decides (`trainer.entropy_control.schedule`), or which target a person set instead.
The control plane changes it; the learner's rank 0 reads it at a step boundary and marks from which step it holds,
and at every step which target is in force: a schedule that moves makes no generations. Each change of state is one
Lua script, so that the document and its history never disagree, and the server's clock is the only clock. Targets
are nats per token, times are seconds since the epoch. Asynchronous callers use `asyncio.to_thread`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from services.entropy_target import scripts as scripts
from services.entropy_target.documents import (
    ANY_TERMS,
    Applied,
    DesiredTarget,
    HistoryEvent,
    Repeated,
    StaleGeneration,
    TargetRefused,
    Terms,
    _document,
    _reply_document,
)
from services.redis.fencing import FencedError
from services.redis.idempotency import KeyReused, Once
from services.redis.keys import RunKeys
from services.redis.query import Read, as_text, fetch, one
from services.redis.streams import newest_entries_read
from services.run.control import Refused
from trainer.config import EntropyControlConfig
from trainer.entropy_control.schedule import Schedule

if TYPE_CHECKING:
    from redis import Redis


def initialise_entropy_target(redis: Redis, run_id: str) -> bool:
    """Write generation 1, by which the configuration decides, unless a document is live (a resumed run keeps it).

    Returns whether it was written.
    """
    keys = RunKeys(run_id)
    return bool(redis.eval(scripts.INITIALISE, 2, keys.entropy_target, keys.entropy_target_history))


def read_entropy_target(redis: Redis, run_id: str) -> DesiredTarget | None:
    """The desired entropy target, or None for a run that has none."""
    return fetch(redis, entropy_target_read(run_id))


def entropy_target_read(run_id: str) -> Read[DesiredTarget | None]:
    """The read of `read_entropy_target`."""
    return one(lambda stored: _document(DesiredTarget, stored), "HGETALL", RunKeys(run_id).entropy_target)


def read_applied(redis: Redis, run_id: str) -> Applied | None:
    """The generation in force, or None before the first step boundary."""
    return fetch(redis, applied_read(run_id))


def applied_read(run_id: str) -> Read[Applied | None]:
    """The read of `read_applied`."""
    return one(lambda stored: _document(Applied, stored), "HGETALL", RunKeys(run_id).entropy_target_applied)


def change_entropy_target(
    redis: Redis,
    run_id: str,
    target: float,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
    over_steps: int = 0,
    terms: Terms = ANY_TERMS,
) -> DesiredTarget:
    """Set a new target under the next generation, within the limits of the run's `entropy_control` block.

    over_steps: learner steps over which it moves there in a straight line. It holds until the next change or
    `reset_entropy_target`. The limit on the change holds against the target at that instant, even with two callers at
    once: the one set last or, while the configured schedule decides, the one in force. While `target=auto` is not
    measured yet there is none, and any target in range is accepted.

    Raises:
        TargetRefused: outside `target_min..target_max`, further than `target_max_change` from the target
            now, or nothing steers towards it: no entropy control, and `regularizer_tracks` is false.
        StaleGeneration, Repeated, KeyReused: as `terms` have it.
        Refused: the run has ended or is stopping, so that no learner step would apply it.
        LookupError: the run has no entropy target document.
    """
    _refuse_without_control(control, target, regularizer_tracks)
    if not control.target_min <= target <= control.target_max:
        allowed = f"it must lie in [{control.target_min:g}, {control.target_max:g}] nats per token"
        raise TargetRefused("range", target, allowed)
    largest = control.target_max_change
    first = "" if control.target == "auto" else repr(Schedule(control, None).target_at(0))
    wanted = (repr(target), str(over_steps), repr(largest), first)
    outcome, reply = _change(redis, run_id, scripts.CHANGE, updated_by, terms, *wanted)
    if outcome == "too far":
        now = float(reply)
        low, high = max(now - largest, control.target_min), min(now + largest, control.target_max)
        allowed = (
            f"one request may change it by at most {largest:g} from {now:g} nats per token, "
            f"so it must lie in [{low:g}, {high:g}]"
        )
        raise TargetRefused("change", target, allowed)
    return _reply_document(reply)


def reset_entropy_target(
    redis: Redis,
    run_id: str,
    updated_by: str,
    control: EntropyControlConfig,
    *,
    regularizer_tracks: bool = False,
    terms: Terms = ANY_TERMS,
) -> DesiredTarget:
    """Let the configured schedule decide again, under the next generation; nothing happens where it does already.

    `target_max_change` does not limit the way back: the schedule was accepted as a whole.

    Raises:
        TargetRefused: nothing steers towards an entropy target.
        StaleGeneration, Repeated, KeyReused: as `terms` have it.
        Refused: the run has ended or is stopping, so that no learner step would apply it.
        LookupError: the run has no entropy target document.
    """
    _refuse_without_control(control, None, regularizer_tracks)
    return _reply_document(_change(redis, run_id, scripts.RESET, updated_by, terms)[1])


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

    target: nats per token, None where there is none (yet); start: the one in force before, where a move begins.
    Idempotent; returns whether the generation was news. A generation between the one in force and this one is
    recorded as superseded. After a rollback the same generation may hold from an earlier step: the earlier step is
    then recorded.

    Raises:
        FencedError: `epoch` is not the learner incarnation that may write.
        LookupError: no such generation.
    """
    keys = RunKeys(run_id)
    names = (
        keys.entropy_target,
        keys.entropy_target_applied,
        keys.entropy_target_history,
        keys.fence,
        keys.entropy_target_steps,
    )
    shown = ("" if value is None else repr(value) for value in (target, start))
    reply = redis.eval(scripts.MARK_APPLIED, len(names), *names, generation, step, epoch, *shown)
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "fenced":
            raise FencedError(epoch=epoch, current=int(values[0]))
        case "unknown":
            raise LookupError(
                f"entropy target generation {generation} does not exist; the newest is {values[0]}"
            )
        case verdict:
            return verdict == "applied"


def record_starting_entropy(redis: Redis, run_id: str, entropy: float, epoch: int) -> None:
    """Record the entropy of the run's first learner step, nats per token.

    Raises FencedError when `epoch` is not the learner incarnation that may write.
    """
    keys = RunKeys(run_id)
    reply = redis.eval(
        scripts.RECORD_STARTING_ENTROPY, 2, keys.entropy_target, keys.fence, repr(entropy), epoch
    )
    outcome, *values = cast("list[Any]", reply)
    if as_text(outcome) == "fenced":
        raise FencedError(epoch=epoch, current=int(values[0]))


def history(redis: Redis, run_id: str, limit: int = 100, *, before: str | None = None) -> list[HistoryEvent]:
    """The newest `limit` events, newest first; only those older than the event `before`, where it is given."""
    return fetch(redis, history_read(run_id, limit, before=before))


def history_read(run_id: str, limit: int, *, before: str | None = None) -> Read[list[HistoryEvent]]:
    """The read of `history`."""
    found = newest_entries_read(RunKeys(run_id).entropy_target_history, limit, before)
    return found.then(
        lambda entries: [HistoryEvent.model_validate({"id": name, **fields}) for name, fields in entries]
    )


def _change(
    redis: Redis, run_id: str, script: str, updated_by: str, terms: Terms, *arguments: str
) -> tuple[str, Any]:
    """Run one of the changes; returns what came of it and its value."""
    keys = RunKeys(run_id)
    expected = "*" if terms.generations is None else ",".join(map(str, sorted(terms.generations)))
    use = terms.once or Once(keys.once("none"), "", 0.0)
    names = (
        *(keys.entropy_target, keys.entropy_target_applied, keys.entropy_target_history, use.record),
        *(keys.audit, keys.status, keys.control),
    )
    given = (updated_by, expected, use.digest, repr(use.seconds), terms.origin)
    reply = redis.eval(script, len(names), *names, *given, *arguments)
    outcome, *values = cast("list[Any]", reply)
    match as_text(outcome):
        case "missing":
            raise LookupError(f"run {run_id!r} has no entropy target")
        case "reused":
            raise KeyReused
        case "ended":
            raise Refused(as_text(values[0]))
        case "again":
            raise Repeated(_reply_document(values[0]))
        case "stale":
            raise StaleGeneration(_reply_document(values[0]))
        case outcome:
            return outcome, values[0]


def _refuse_without_control(control: EntropyControlConfig, target: float | None, regularizer: bool) -> None:
    if control.kind == "none" and not regularizer:
        raise TargetRefused(
            "no_control",
            target,
            "the run has entropy_control.kind=none and no regularizer that steers towards an entropy target",
        )
