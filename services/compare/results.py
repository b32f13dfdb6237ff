"""The result of one unit, `result.json`. Entropies are in nats per token, times in seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from services.compare.plan import Source
from trainer.entropy_control.base import Limit
from trainer.files import write_atomically

FORMAT: Final = 1
RESULT_FILE = "result.json"


class StepPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One learner step: the fields that both kinds of units have, named as in `StepRecord`."""

    step: int
    entropy: float | None
    """policy entropy, nats per token; None where it could not be measured"""
    entropy_target: float | None = msgspec.field(name="set_point")
    """nats per token; None without one. Files of format 1 name it `set_point`"""
    reference: float | None
    temperature: float
    alpha: float
    surprisal_exponent: float
    saturated: bool
    limit: Limit | None = None
    """at which the law was after the step; None in results of the full system and of versions that did not keep it"""
    reward: float
    adaptive_reward: float | None
    positives: int
    auxiliary_positives: int | None = None
    auxiliary_effective: float | None = None
    auxiliary_largest_share: float | None = None
    auxiliary_length: float | None = None
    auxiliary_weighted_length: float | None = None
    """None in results of versions that did not measure it"""
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
    """correct responses out of `samples`, int[problems]"""
    seconds: float | None
    """wall clock of the evaluation; None where it was not timed"""


class UnitResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished unit."""

    format: Literal[1]
    control: str
    """the label of the control"""
    preset: str
    seed: int
    settings: list[str]
    source: Source
    evaluate_every: int
    parallel: int
    """units that ran in parallel, on which the wall clock depends"""
    config: dict[str, Any]
    config_hash: str
    versions: dict[str, str]
    machine: dict[str, Any]
    finished_at: str
    train_seconds: float
    evaluation_seconds: float | None
    steps: list[StepPoint]
    evaluations: list[EvaluationPoint]
    """in order of steps; the first is before training, the last after it"""


def measured(value: float | None) -> float | None:
    """Return `value`, or None when it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def write_result(directory: Path, result: UnitResult) -> None:
    """Write the result into the unit's directory. Its presence marks the unit as finished."""
    write_atomically(directory / RESULT_FILE, msgspec.json.encode(result) + b"\n")


def read_result(directory: Path) -> UnitResult:
    """Read the result in a unit's directory. Raises msgspec.DecodeError for a file of another format."""
    return msgspec.json.decode((directory / RESULT_FILE).read_bytes(), type=UnitResult)
