"""Named entropy controls as configuration overrides, and the grids over which each is tuned.

A preset maps dotted fields to values, in the form that `--set` of `scope train` accepts (`as_settings`). Each sets both
kinds, of control law and regularizer, so that it has the same meaning on top of any configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from trainer.errors import ScopeError

Overrides = dict[str, str | float]


def _rival(kind: str) -> Overrides:
    return {"entropy_control.kind": "none", "regularizer.kind": kind}


def _law(kind: str) -> Overrides:
    return {"entropy_control.kind": kind, "regularizer.kind": "none"}


_PRESETS: dict[str, Overrides] = {
    "grpo": _rival("none"),
    "entropy_bonus": _rival("entropy_bonus"),
    "adaptive_coefficient": _rival("adaptive_coefficient"),
    "clip_higher": _rival("clip_higher"),
    "clip_cov": _rival("clip_cov"),
    "kl_cov": _rival("kl_cov"),
    "entropy_advantage": _rival("entropy_advantage"),
    "dcpo": _rival("dcpo"),
    # The public code of v1 divides by the number of positives, not of all samples.
    "aepo_v1": _law("aepo_v1")
    | {"entropy_control.normalization": "positives", "entropy_control.aepo_v1.surprisal_exponent": 0.0},
    "scope_paper": _law("paper")
    | {
        "entropy_control.normalization": "sum",
        "entropy_control.paper.surprisal_exponent": 0.0,
        "entropy_control.paper.alpha": 1 / 64,
        "entropy_control.paper.t_min": 0.8,
        "entropy_control.paper.t_max": 1.2,
        "loss.aggregation": "sequence_mean",
        "loss.clip_low": 0.2,
        "loss.clip_high": 0.2,
        "loss.advantage_epsilon": 1e-6,
    },
    "scope": _law("split_range"),
}

_GRIDS: dict[str, Mapping[str, Sequence[float]]] = {
    "grpo": {},
    "entropy_bonus": {"regularizer.entropy_bonus.coefficient": (0.003, 0.01, 0.03, 0.1)},
    "adaptive_coefficient": {"regularizer.adaptive_coefficient.delta": (0.0005, 0.001, 0.002, 0.005)},
    "clip_higher": {"regularizer.clip_higher.high": (0.24, 0.28, 0.32, 0.4)},
    "clip_cov": {"regularizer.clip_cov.ratio": (2e-4, 2e-3, 2e-2, 2e-1)},
    "kl_cov": {"regularizer.kl_cov.ratio": (2e-4, 2e-3, 2e-2, 2e-1)},
    "entropy_advantage": {"regularizer.entropy_advantage.alpha": (0.1, 0.2, 0.4, 0.8)},
    "dcpo": {"regularizer.dcpo.cap": (0.05, 0.1, 0.2, 0.4)},
    "aepo_v1": {"entropy_control.aepo_v1.alpha": (1 / 64, 1 / 16, 1 / 4, 1.0)},
    "scope_paper": {"entropy_control.paper.alpha": (1 / 64, 1 / 16, 1 / 4, 1.0)},
    "scope": {"entropy_control.split_range.surprisal_exponent_max": (1.0, 2.0, 3.0, 4.0)},
}

NAMES = tuple(_PRESETS)


def preset(name: str) -> Overrides:
    """The overrides of a named control. Raises ScopeError with the nearest name for an unknown one."""
    if name not in _PRESETS:
        nearest = max(NAMES, key=lambda known: difflib.SequenceMatcher(None, name, known).ratio())
        raise ScopeError(
            f"There is no control named {name!r}. The nearest valid name is {nearest}; valid are {', '.join(NAMES)}."
        )
    return dict(_PRESETS[name])


def grid(name: str) -> list[Overrides]:
    """The preset with each combination of the values over which its main parameters are tuned (GRPO: none)."""
    points = [preset(name)]
    for field, values in _GRIDS[name].items():
        points = [point | {field: value} for point in points for value in values]
    return points


def as_settings(overrides: Mapping[str, str | float]) -> list[str]:
    """The overrides as `a.b=value`, for `load_config` and `--set`; numbers keep all digits."""
    return [
        f"{field}={value if isinstance(value, str) else repr(value)}" for field, value in overrides.items()
    ]
