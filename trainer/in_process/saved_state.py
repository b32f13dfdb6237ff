"""What an in-process run saves besides the learner's weights and optimizer state, so that it continues bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from trainer.rollouts.trajectory import Group

STATE_FILE = "state.msgpack"


class SampledStep(msgspec.Struct, frozen=True, kw_only=True):
    """The rollouts of one learner step, sampled and not trained on yet."""

    groups: list[Group]
    temperature: float
    """sampling temperature of adaptive rollouts"""
    tokens: int
    """response tokens sampled, of both roles"""
    seconds: float
    """processor time of the sampling"""


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run before learner step `step`."""

    step: int
    controller: dict[str, float]
    strength_law: dict[str, float]
    curriculum: dict[str, Any] | None
    starting_entropy: float | None
    """nats per token, from which the schedule begins; None where it has not begun"""
    generator: bytes
    """state of the random generator of sampling"""
    ahead: list[SampledStep]


def write_state(directory: Path, state: SavedState) -> None:
    """Write the state into an existing directory."""
    (directory / STATE_FILE).write_bytes(msgspec.msgpack.encode(state))


def read_state(directory: Path) -> SavedState:
    """Read what `write_state` wrote. Raises msgspec.DecodeError for a file of another format."""
    return msgspec.msgpack.decode((directory / STATE_FILE).read_bytes(), type=SavedState)
