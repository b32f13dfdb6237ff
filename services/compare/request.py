"""The request that a unit's process reads, and the files that it writes besides its result. Torch-free."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.compare.plan import SAMPLES_BETWEEN, Plan, Unit

REQUEST_FILE = "request.json"
STEPS_FILE = "steps.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
"""one `EvaluationPoint` a line, written as each evaluation ends"""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The request that a unit's process reads."""

    control: str
    preset: str
    seed: int
    settings: list[str]
    evaluate_every: int
    samples_between: int = SAMPLES_BETWEEN
    parallel: int
    config: dict


def write_request(directory: Path, unit: Unit, plan: Plan) -> Path:
    """Write the request into the unit's directory; returns its path."""
    request = Request(
        control=unit.label,
        preset=unit.preset,
        seed=unit.seed,
        settings=list(unit.settings),
        evaluate_every=plan.evaluate_every,
        samples_between=plan.samples_between,
        parallel=plan.parallel,
        config=unit.config.model_dump(mode="json"),
    )
    path = directory / REQUEST_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(request), indent=1))
    return path
