"""How closely a run's entropy followed its target, for each target that was in force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.records.step_record import StepRecord

NEAR = 0.1
"""An entropy is near its target within this share of it."""


def entropy_held(records: Sequence[StepRecord]) -> list[dict[str, Any]]:
    """One entry for each generation of the target, in order; without those of no measured step.

    `first_step` and `last_step` count from 0; `target_from` and `target_to` differ where the target moves by a schedule
    or a ramp. `mean_error` and `rms_error`: entropy minus target, nats per token; `near_share`: steps within 10 % of
    the target; `saturated_share`: steps at the limit of the actuators.
    """
    measured = [r for r in records if r.entropy_target is not None and math.isfinite(r.entropy)]
    found = []
    for generation, group in itertools.groupby(measured, key=lambda r: r.entropy_target_generation):
        steps = list(group)
        targets = np.array([r.entropy_target for r in steps], dtype=float)
        errors = np.array([r.entropy for r in steps]) - targets
        found.append(
            {
                "generation": generation,
                "first_step": steps[0].step,
                "last_step": steps[-1].step,
                "target_from": float(targets[0]),
                "target_to": float(targets[-1]),
                "mean_error": float(errors.mean()),
                "rms_error": float(np.sqrt(np.mean(errors**2))),
                "near_share": float(np.mean(np.abs(errors) <= NEAR * targets)),
                "saturated_share": float(np.mean([r.saturated for r in steps])),
            }
        )
    return found
