"""The audit of a run, and of the service: an append-only stream of the changes that people made or requested.

Each change writes its entry in the Lua script that makes it (`services/entropy_target/lua`, `services/run/lua`,
`services/replay/lua`, `services/access/lua`). The control plane deletes no entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict

from services.redis.keys import SERVICE_AUDIT, RunKeys
from services.redis.streams import newest_entries

if TYPE_CHECKING:
    from redis import Redis


class AuditEntry(BaseModel):
    """One entry of the audit."""

    model_config = ConfigDict(frozen=True)

    id: str
    action: str
    by: str
    origin: str
    """address of the caller; `local` for an action without the control plane"""
    before: str = ""
    """the value before, by action: a target in nats per token, a state, or a token's name and scope"""
    after: str = ""
    generation: int | None = None
    """the generation, for a change of the entropy target"""
    effective_step: int | None = None
    """for a change of the entropy target, the learner step from which it holds; None while pending or if superseded"""
    at: float
    """seconds since the epoch"""


def audit_key(run_id: str | None) -> str:
    """Redis key of a run's audit; None: of the service's audit, for changes that concern every run."""
    return SERVICE_AUDIT if run_id is None else RunKeys(run_id).audit


def read_audit(
    redis: Redis, run_id: str | None, limit: int = 100, *, before: str | None = None
) -> list[AuditEntry]:
    """The newest `limit` entries, newest first; only those older than the entry `before`, if given."""
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
