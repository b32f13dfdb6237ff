"""The documents of the entropy target, and the ways in which a change is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from services.redis.idempotency import Once
from services.redis.query import as_fields

if TYPE_CHECKING:
    pass


_Model = TypeVar("_Model", bound=BaseModel)


class DesiredTarget(BaseModel):
    """The desired entropy target."""

    model_config = ConfigDict(frozen=True)

    generation: int
    """at least 1; one more for every accepted change"""
    source: Literal["configuration", "api"]
    """what decides: the configured schedule, or the target that was set over REST"""
    target: float | None = None
    """of `api`, nats per token"""
    over_steps: int = 0
    """of `api`: learner steps over which the target moves there in a straight line; 0: at once"""
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
    start: float | None = None
    """the target that was in force before `step`, nats per token: where a move over steps begins"""


class HistoryEvent(BaseModel):
    """One entry of the append-only history of a run's entropy target."""

    model_config = ConfigDict(frozen=True)

    id: str
    """stream id: orders the events and resumes a listing"""
    event: Literal["changed", "applied", "superseded"]
    generation: int
    at: float
    target: float | None = None
    """of `changed`, nats per token; None where it went to the configured schedule"""
    over_steps: int = 0
    """of `changed`"""
    by: str | None = None
    """of `changed`: who; of `superseded`: the generation that was applied instead"""
    step: int | None = None
    """of `applied` and `superseded`: the learner step"""


class TargetRefused(Exception):
    """A change that the run's limits do not allow; the document stays as it was."""

    def __init__(
        self, reason: Literal["range", "change", "no_control"], value: float | None, allowed: str
    ) -> None:
        self.reason, self.value, self.allowed = reason, value, allowed
        super().__init__(allowed if value is None else f"target = {value!r} is not allowed: {allowed}")


class StaleGeneration(Exception):
    """The caller did not know the newest generation, `current`; the document stays as it was."""

    def __init__(self, current: DesiredTarget) -> None:
        self.current = current
        super().__init__(f"the newest generation is {current.generation}")


class Repeated(Exception):
    """The same request was accepted before, and left `entropy_target`."""

    def __init__(self, entropy_target: DesiredTarget) -> None:
        self.entropy_target = entropy_target
        super().__init__(f"accepted before as generation {entropy_target.generation}")


class Terms(NamedTuple):
    """On what terms a change is accepted."""

    generations: frozenset[int] | None = None
    """the newest generation must be one of these; None: whatever it is"""
    once: Once | None = None
    """accept this request once"""
    origin: str = "local"
    """where it comes from, for the audit"""


ANY_TERMS = Terms()


def _reply_document(flat: list[bytes]) -> DesiredTarget:
    """Of a script's HGETALL: names and values in turn."""
    return DesiredTarget.model_validate(as_fields(dict(zip(flat[::2], flat[1::2], strict=True))))


def _document(model: type[_Model], stored: Any) -> _Model | None:
    return model.model_validate(as_fields(stored)) if stored else None
