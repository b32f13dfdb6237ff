"""The documents of the entropy target, and the reasons why a change is refused."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from services.redis.idempotency import IdempotentRequest
from services.redis.query import as_fields

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class DesiredTarget(BaseModel):
    """The desired entropy target."""

    model_config = ConfigDict(frozen=True)

    generation: int
    """at least 1; one more for every accepted change"""
    source: Literal["configuration", "api"]
    """what is in effect: the configured schedule, or a target that was set through the API"""
    target: float | None = None
    """nats per token; set when the source is `api`"""
    over_steps: int = 0
    """learner steps of the linear ramp to the target; 0: the whole change at the next step boundary"""
    updated_by: str
    updated_at: float
    """seconds since the epoch"""
    starting_entropy: float | None = None
    """entropy of the run's first learner step, nats per token; `entropy_control.target=auto` is a share of it"""


class Applied(BaseModel):
    """The generation in force, and the learner step of the surviving lineage from which it holds."""

    model_config = ConfigDict(frozen=True)

    generation: int
    step: int
    at: float
    """seconds since the epoch"""
    target: float | None = None
    """in force at step `target_step`, nats per token; None without entropy control and before `auto` is measured"""
    target_step: int | None = None
    """the newest learner step that began"""
    start: float | None = None
    """the target in force before `step`, nats per token: where a ramp starts"""


class HistoryEvent(BaseModel):
    """One entry of the append-only history of a run's entropy target."""

    model_config = ConfigDict(frozen=True)

    id: str
    """stream id: orders the events and resumes a listing"""
    event: Literal["changed", "applied", "superseded"]
    generation: int
    at: float
    target: float | None = None
    """for `changed`: the new target, nats per token; None for a return to the configured schedule"""
    over_steps: int = 0
    """for `changed`: learner steps of the linear ramp"""
    by: str | None = None
    """for `changed`: the caller; for `superseded`: the generation that was applied instead"""
    step: int | None = None
    """for `applied` and `superseded`: the learner step"""


class TargetRefused(Exception):
    """A change that the run's limits do not allow; the document is unchanged."""

    def __init__(
        self, reason: Literal["range", "change", "no_control"], value: float | None, allowed: str
    ) -> None:
        self.reason, self.value, self.allowed = reason, value, allowed
        super().__init__(allowed if value is None else f"target = {value!r} is not allowed: {allowed}")


class NoTargetSet(Exception):
    """The change keeps the target that was set, and none is; the document is unchanged."""


class StaleGeneration(Exception):
    """The caller did not know the newest generation, `current`; the document is unchanged."""

    def __init__(self, current: DesiredTarget) -> None:
        self.current = current
        super().__init__(f"the newest generation is {current.generation}")


class Repeated(Exception):
    """The same request was accepted before; `entropy_target` is the document that it left."""

    def __init__(self, entropy_target: DesiredTarget) -> None:
        self.entropy_target = entropy_target
        super().__init__(f"accepted before as generation {entropy_target.generation}")


class ChangeConditions(NamedTuple):
    """The conditions under which a change is accepted; by default there are none."""

    generations: frozenset[int] | None = None
    """the newest generation must be one of these; None: any"""
    request: IdempotentRequest | None = None
    """accept this request once; None: it has no idempotency key"""
    origin: str = "local"
    """address of the caller, for the audit"""


UNCONDITIONAL = ChangeConditions()


def document(model: type[DocumentT], stored: Any) -> DocumentT | None:
    """Parse the reply to HGETALL; None for a hash that does not exist."""
    return model.model_validate(as_fields(stored)) if stored else None


def target_in_reply(flat: list[bytes]) -> DesiredTarget:
    """Parse the HGETALL in a script's reply, a flat list of names and values."""
    return DesiredTarget.model_validate(as_fields(dict(zip(flat[::2], flat[1::2], strict=True))))
