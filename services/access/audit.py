"""The audit of a run, and that of the service: an append-only stream of what people asked for.

Changes of the entropy target and of the desired state write their entry in the Lua script that makes the change
(`services.entropy_target.scripts`, `services.run.control`); other changes add theirs by `note` in their transaction.
Nothing in the control plane deletes from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict

from services.redis.keys import SERVICE_AUDIT, RunKeys
from services.redis.streams import newest_entries

if TYPE_CHECKING:
    from redis import Redis


class Act(NamedTuple):
    """What somebody did."""

    action: str
    by: str
    origin: str
    """the address that it came from; `local` for one without the control plane"""
    before: str = ""
    after: str = ""
    at: float = 0.0
    """seconds since the epoch"""


class AuditEntry(BaseModel):
    """One entry of the audit."""

    model_config = ConfigDict(frozen=True)

    id: str
    action: str
    by: str
    origin: str
    before: str = ""
    """what held before, in the words of the action: a target in nats, a state, a token's name and scope"""
    after: str = ""
    generation: int | None = None
    """of an entropy target change"""
    effective_step: int | None = None
    """of an entropy target change: the learner step from which it holds; None while it waits or if it was superseded"""
    at: float
    """seconds since the epoch"""


def audit_key(run_id: str | None) -> str:
    """The stream of a run; None: of what concerns every run."""
    return SERVICE_AUDIT if run_id is None else RunKeys(run_id).audit


def note(redis: Redis, stream: str, act: Act) -> None:
    """Append an entry; `redis` may be a pipeline."""
    redis.xadd(stream, {name: str(value) for name, value in act._asdict().items()})


def read_audit(
    redis: Redis, run_id: str | None, limit: int = 100, *, before: str | None = None
) -> list[AuditEntry]:
    """The newest `limit` entries, newest first; only those older than the entry `before`, where it is given."""
    found = newest_entries(redis, audit_key(run_id), limit, before)
    entries: list[dict[str, Any]] = [{"id": name} | fields for name, fields in found]
    generations = [entry["generation"] for entry in entries if entry.get("generation")]
    steps: dict[str, int] = {}
    if run_id is not None and generations:
        stored = cast("list[bytes | None]", redis.hmget(RunKeys(run_id).entropy_target_steps, generations))
        steps = {g: int(step) for g, step in zip(generations, stored, strict=True) if step is not None}
    return [
        AuditEntry.model_validate(entry | {"effective_step": steps.get(entry.get("generation", ""))})
        for entry in entries
    ]
