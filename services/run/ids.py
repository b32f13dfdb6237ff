"""Run ids: their syntax, and the Ray namespace of a run."""

from __future__ import annotations

import re

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_run_id(text: str) -> bool:
    """Whether `text` may name a run: 1–128 letters, digits, `.`, `_`, `-`, the first a letter or digit."""
    return _RUN_ID.fullmatch(text) is not None


def actor_namespace(run_id: str) -> str:
    """Ray namespace that holds a run's named actors."""
    return f"scope-{run_id}"
