"""The phases of a run, in the order in which it passes through them, and the words for them."""

from __future__ import annotations

from typing import Literal

Phase = Literal[
    "starting",
    "starting_model",
    "starting_ray",
    "starting_engines",
    "evaluating",
    "starting_learner",
    "running",
    "paused",
    "stopping",
    "saving",
    "learned",
    "reporting",
    "finished",
    "failed",
]
"""`evaluating` comes before the first step and after the last one; `saving` follows the last step, `stopping` a stop;
in `learned` the learner has nothing left to write"""

WORDS: dict[str, str] = {
    "starting": "starting",
    "starting_model": "preparing the starting model",
    "starting_ray": "starting Ray",
    "starting_engines": "starting the engines",
    "evaluating": "evaluating",
    "starting_learner": "waiting for the learner",
    "running": "learning",
    "paused": "paused",
    "stopping": "stopping, writing the last checkpoint",
    "saving": "writing the last checkpoint and the model",
    "learned": "ending the learner",
    "reporting": "writing the report",
    "finished": "finished",
    "failed": "failed",
}

ENDED = ("finished", "failed")
BY_LEARNER = ("running", "paused", "stopping", "saving")
"""phases in which the learner renews the run's heartbeat; in the others the driver does"""


def phase_text(phase: str, detail: str | None) -> str:
    """A phase in words, with its detail: `starting the engines: 1 of 2 ready`."""
    words = WORDS.get(phase, phase)
    return f"{words}: {detail}" if detail else words
