"""Entropy control law and regularizer in a checkpoint: their states, and the kinds of law that these belong to.

A law takes up a state of its own kind. From another kind, an entropy control law only takes over the temperature, so
that it does not jump, and a strength law begins anew.
"""

from __future__ import annotations

from typing import Any

from trainer.checkpoint.store import LearnerState
from trainer.config import RunConfig
from trainer.entropy_control import Controller
from trainer.regularizers import StrengthLaw

_KIND_BY_FIELD = {
    "integral": "split_range",
    "saturated": "paper",
    "temperature": "aepo_v1",
    "coefficient": "adaptive_coefficient",
    "error": "dcpo",
}
"""for states without a kind: the field that only this kind has, or that no kind before it has"""


def law_state(config: RunConfig, controller: Controller, strength_law: StrengthLaw) -> dict[str, Any]:
    """The fields of `LearnerState`, by name, for both laws of a run."""
    return {
        "controller": controller.state(),
        "controller_kind": config.entropy_control.kind,
        "regularizer": strength_law.state(),
        "regularizer_kind": config.regularizer.kind,
    }


def restore_laws(
    restored: LearnerState, config: RunConfig, controller: Controller, strength_law: StrengthLaw
) -> None:
    """Continue both laws, made by `config`, from a checkpoint that any kinds of law may have written."""
    state, kind = restored.controller, config.entropy_control.kind
    if _kind(restored.controller_kind, state) == kind:
        controller.restore(state)
    else:
        controller.take_over(state.get("temperature", 1.0))
    if _kind(restored.regularizer_kind, restored.regularizer) == config.regularizer.kind:
        strength_law.restore(restored.regularizer)


def _kind(written: str | None, state: dict[str, float]) -> str:
    """The kind of law that a state belongs to; `none` also stands for every law without a state."""
    if written is not None:
        return written
    return next((kind for field, kind in _KIND_BY_FIELD.items() if field in state), "none")
