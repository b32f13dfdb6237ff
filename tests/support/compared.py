"""Made-up unit results, in the form that a comparison reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.compare.results import FORMAT, EvaluationPoint, StepPoint, UnitResult


def step_point(step: int, **changes: Any) -> StepPoint:
    """A step of 2 seconds and 100 tokens, with entropy at its target of 0.4."""
    fields: dict[str, Any] = {
        "step": step,
        "entropy": 0.4,
        "entropy_target": 0.4,
        "reference": 0.4,
        "temperature": 1.1,
        "alpha": 0.5,
        "surprisal_exponent": 1.0,
        "saturated": False,
        "reward": 0.3,
        "adaptive_reward": 0.2,
        "positives": 5,
        "response_length": 9.0,
        "clip_fraction": 0.0,
        "gradient_norm": 1.0,
        "generated_tokens": 100,
        "seconds": 2.0,
    }
    return StepPoint(**(fields | changes))


def evaluation(step: int, correct: Sequence[int], samples: int = 4) -> EvaluationPoint:
    """An evaluation with one problem per entry of `correct`."""
    return EvaluationPoint(step=step, samples=samples, correct=list(correct), seconds=1.0)


def unit_result(
    control: str,
    seed: int,
    steps: Sequence[StepPoint],
    evaluations: Sequence[EvaluationPoint],
) -> UnitResult:
    """A finished unit."""
    return UnitResult(
        format=FORMAT,
        control=control,
        preset=control,
        seed=seed,
        settings=[],
        source="in-process",
        evaluate_every=2,
        parallel=1,
        config={},
        config_hash="0" * 64,
        versions={},
        machine={},
        finished_at="2026-01-01T00:00:00Z",
        train_seconds=sum(s.seconds for s in steps),
        evaluation_seconds=1.0,
        steps=list(steps),
        evaluations=list(evaluations),
    )
