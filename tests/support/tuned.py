"""Files of a trial's units, as training would write them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.compare.plan import Plan, Unit
from services.compare.request import EVALUATIONS_FILE
from services.compare.results import write_result
from services.compare.run import unit_directory
from tests.support.compared import evaluation, step_point, unit_result

SAMPLES = 4
STEPS_BETWEEN = 2


def write_unit(plan: Plan, unit: Unit, correct: Sequence[int]) -> None:
    """Write the evaluations at steps 0, 2, 4, …, and the result if they reach the last step.

    correct: correct responses of `SAMPLES` to the only problem, one number for each evaluation.
    """
    directory = unit_directory(plan, unit)
    directory.mkdir(parents=True, exist_ok=True)
    points = [evaluation(STEPS_BETWEEN * i, [n], SAMPLES) for i, n in enumerate(correct)]
    lines = b"".join(msgspec.json.encode(point) + b"\n" for point in points)
    (directory / EVALUATIONS_FILE).write_bytes(lines)
    if points[-1].step == unit.config.steps:
        result = unit_result(unit.label, unit.seed, [step_point(i) for i in range(unit.config.steps)], points)
        write_result(directory, msgspec.structs.replace(result, config=unit.config.model_dump(mode="json")))
