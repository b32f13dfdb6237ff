"""Alarms of step records: their kinds, and what to do where entropy control is at the limit of its actuators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

AlarmKind = Literal[
    "heating_at_limit",
    "cooling_at_limit",
    "mismatch_kl",
    "entropy_not_finite",
    "weights_not_loaded",
    "generators_down",
    "logger",
]

REMEDIES: dict[AlarmKind, str] = {
    "heating_at_limit": "lower the target, or raise surprisal_exponent_max or t_max",
    "cooling_at_limit": "raise the target, or lower t_min",
}
"""what to do about entropy control at its limit, by the direction in which it acts"""


def limit_of(record: Mapping[str, Any]) -> AlarmKind | None:
    """The direction in which entropy control is at the limit of its actuators; None where it is not."""
    return next((kind for kind in REMEDIES if kind in record.get("alarm_kinds", ())), None)


def limit_text(record: Mapping[str, Any]) -> str | None:
    """One sentence on entropy control at the limit of its actuators, with what to do; None where it is not."""
    if (kind := limit_of(record)) is None:
        return None
    heats = kind == "heating_at_limit"
    verb = "heat" if heats else "cool"
    entropy, target = record["entropy"], record["entropy_target"]
    if entropy is None or target is None or (entropy < target) != heats:
        state = f"the actuators {verb} at their limit"
    else:
        away = f"{'below' if heats else 'above'} the target {target:z.3f}"
        state = f"entropy {entropy:z.3f} is {away} although the actuators {verb} at their limit"
    return f"{state}: {REMEDIES[kind]}"
