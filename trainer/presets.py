"""Named entropy controls as configuration overrides. Torch-free.

A preset holds dotted fields and their values, as `--set` of `scope train` takes them (`as_settings`), so a run
of a preset is a run that anybody can start.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from trainer.errors import ScopeError

Overrides = dict[str, str | float]

_PRESETS: dict[str, Overrides] = {
    "grpo": {"entropy_control.kind": "none"},
    "aepo_v1": {"entropy_control.kind": "aepo_v1", "entropy_control.normalization": "positives"},
    "scope_paper": {"entropy_control.kind": "paper", "entropy_control.normalization": "sum"},
    "scope": {"entropy_control.kind": "split_range"},
}

NAMES = tuple(_PRESETS)


def preset(name: str) -> Overrides:
    """Overrides of the named control. Raises ScopeError with the nearest name when there is none."""
    if name not in _PRESETS:
        nearest = max(NAMES, key=lambda known: difflib.SequenceMatcher(None, name, known).ratio())
        raise ScopeError(
            f"There is no control named {name!r}. The nearest valid name is {nearest}; all are {', '.join(NAMES)}."
        )
    return dict(_PRESETS[name])


def as_settings(overrides: Mapping[str, str | float]) -> list[str]:
    """`a.b=value`, as `load_config` and `--set` read them; numbers keep every digit."""
    return [
        f"{field}={value if isinstance(value, str) else repr(value)}" for field, value in overrides.items()
    ]
