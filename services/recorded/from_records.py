"""The documents of a run whose directory has no saved state, as far as its step records tell."""

from __future__ import annotations

from collections.abc import Sequence

from services.recorded.saved_state import Entry, SavedState
from services.records.step_record import StepRecord

UNKNOWN = "unknown"


def state_of(run_id: str, records: Sequence[StepRecord], at: float) -> SavedState:
    """The entropy target, its history and the counters of the queue. at: when the run was last seen, epoch seconds.

    Step records tell from which step a target was in force, but not who set it, so the history has no requests.
    """
    if not records:
        return SavedState(
            saved_at=at,
            run_id=run_id,
            hashes={"entropy_target": _target("configuration", at)},
            streams={"entropy_target_history": [_configured(at)]},
        )
    newest = records[-1]
    began = _began(records)
    in_force = began[-1]
    target = _target("configuration", in_force.at, in_force.entropy_target_generation)
    if in_force.entropy_target_generation > 1 and newest.entropy_target is not None:
        target = _target("api", in_force.at, in_force.entropy_target_generation)
        target |= {"target": repr(newest.entropy_target), "updated_by": UNKNOWN}
    if newest.starting_entropy is not None:
        target["starting_entropy"] = repr(newest.starting_entropy)
    applied = {
        "generation": str(in_force.entropy_target_generation),
        "step": str(in_force.step),
        "at": repr(in_force.at),
    }
    if newest.entropy_target is not None:
        applied |= {"target": repr(newest.entropy_target), "target_step": str(newest.step)}
    return SavedState(
        saved_at=at,
        run_id=run_id,
        hashes={
            "entropy_target": target,
            "entropy_target_applied": applied,
            "entropy_target_steps": {str(r.entropy_target_generation): str(r.step) for r in began},
            "counters": _counters(newest),
        },
        streams={
            "entropy_target_history": [
                _configured(records[0].at),
                *(_applied(number, record) for number, record in enumerate(began, start=1)),
            ]
        },
    )


def _target(source: str, at: float, generation: int = 1) -> dict[str, str]:
    return {
        "generation": str(generation),
        "source": source,
        "updated_by": "configuration",
        "updated_at": repr(at),
    }


def _configured(at: float) -> Entry:
    fields = {"event": "changed", "generation": "1", "by": "configuration", "at": repr(at)}
    return _id(at, 0), fields


def _began(records: Sequence[StepRecord]) -> list[StepRecord]:
    """The first record under each generation of the target."""
    return [
        record
        for record, before in zip(records, [None, *records[:-1]], strict=True)
        if before is None or before.entropy_target_generation != record.entropy_target_generation
    ]


def _applied(number: int, record: StepRecord) -> Entry:
    fields = {
        "event": "applied",
        "generation": str(record.entropy_target_generation),
        "step": str(record.step),
        "at": repr(record.at),
    }
    return _id(record.at, number), fields


def _id(at: float, number: int) -> str:
    # The number keeps the ids in order when two records have the same time.
    return f"{max(int(1000 * at), 1)}-{number}"


def _counters(newest: StepRecord) -> dict[str, str]:
    """As after the newest step: what is unread and pending follows from these."""
    read = newest.produced - newest.queue_unread
    return {
        "produced": str(newest.produced),
        "read": str(read),
        "acknowledged": str(read - newest.queue_pending - newest.dead_lettered),
        "dead_lettered": str(newest.dead_lettered),
        "duplicates": str(newest.duplicates),
    }
