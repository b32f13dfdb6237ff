"""A step record with plausible values."""

from __future__ import annotations

from typing import Any

import msgspec

from services.records.step_record import StepRecord

STEPS, GROUPS = 30, 12


def record(step: int, **changes: Any) -> StepRecord:
    """A step record of a run whose entropy falls to its target of 0.4 and stays there."""
    fields: dict[str, Any] = {f.name: 0 for f in msgspec.structs.fields(StepRecord)}
    return StepRecord(
        **(
            fields
            | {
                "step": step,
                "lineage": 1,
                "at": 1e9 + step,
                "entropy": max(0.4, 0.7 - 0.02 * step),
                "entropy_target": 0.4,
                "entropy_target_generation": 1,
                "temperature": 1.1,
                "alpha": 0.5,
                "surprisal_exponent": 1.0,
                "sampling_temperature": 1.1,
                "adaptive_reward": 0.2,
                "reward": 0.01 * step,
                "saturated": False,
                "staleness": {0: 10, 1: 38},
                "spanning_rollouts": 3,
                "groups": GROUPS,
                "tokens": 1000,
                "step_seconds": 2.0,
                "wait_seconds": 0.5,
                "batch_seconds": 0.1,
                "learn_seconds": 1.0,
                "publish_seconds": 0.2,
                "weight_load_seconds": 0.05,
                "generators_alive": {"base": 1, "adaptive": 1},
                "unscored_causes": {},
                "unscored_example": "",
                "generator_restarts": 0,
                "generator_tokens_per_second": {"base": 100.0, "adaptive": 200.0},
                "generator_busy_share": {"base": 0.9, "adaptive": 0.8},
                "generator_loading_share": {"base": 0.05, "adaptive": 0.1},
                "mixture_shares": {"0": 0.5, "1": 0.5},
                "mixture_pass_rates": {"0": 0.9, "1": 0.1},
                "evaluation": {"step": step, "pass@1": 0.3},
                "alarms": [],
                "alarm_kinds": [],
            }
            | changes
        )
    )
