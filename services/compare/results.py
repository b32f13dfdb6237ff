"""What one unit leaves, whichever way it ran: `result.json`. Entropies are nats per token, times seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from services.compare.plan import Source
from trainer.files import write_atomically

FORMAT: Final = 1
RESULT_FILE = "result.json"


class StepPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One learner step: fields that both kinds of runs have, under the names of `StepRecord`."""

    step: int
    entropy: float | None
    """None where it could not be measured"""
    entropy_target: float | None = msgspec.field(name="set_point")
    """nats per token; None without one. Files of format 1 name it `set_point`"""
    reference: float | None
    temperature: float
    alpha: float
    surprisal_exponent: float
    saturated: bool
    reward: float
    adaptive_reward: float | None
    positives: int
    response_length: float
    clip_fraction: float
    gradient_norm: float
    generated_tokens: int
    """response tokens sampled, of every role"""
    seconds: float
    """wall clock of the step, sampling included and evaluation not; in process, processor time"""


class EvaluationPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out problems after `step` learner steps."""

    step: int
    samples: int
    correct: list[int]
    """for each problem, answers out of `samples` that were right"""
    seconds: float | None
    """None where it was not timed"""


class UnitResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished unit."""

    format: Literal[1]
    control: str
    """its label"""
    preset: str
    seed: int
    settings: list[str]
    source: Source
    evaluate_every: int
    parallel: int
    """units that ran at once, for judging wall clock"""
    config: dict[str, Any]
    config_hash: str
    versions: dict[str, str]
    machine: dict[str, Any]
    finished_at: str
    train_seconds: float
    evaluation_seconds: float | None
    steps: list[StepPoint]
    evaluations: list[EvaluationPoint]
    """by step, the first before training and the last after it"""


def measured(value: float | None) -> float | None:
    """None for what is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def write_result(directory: Path, result: UnitResult) -> None:
    """Leave the result in the unit's directory; its presence says that the unit is finished."""
    write_atomically(directory / RESULT_FILE, msgspec.json.encode(result) + b"\n")


def read_result(directory: Path) -> UnitResult:
    """The result in a unit's directory. Raises msgspec.DecodeError for a file of another format."""
    return msgspec.json.decode((directory / RESULT_FILE).read_bytes(), type=UnitResult)
