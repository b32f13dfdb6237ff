"""The configured entropy target as a function of the learner step.

It does not depend on wall-clock time, so a resumed run has the same sequence. With the first target a (see `Schedule`)
and p = (step - from_step) / (until_step - from_step), clipped to [0, 1]:

    hold     a
    step     the target of the last point reached, a before the first
    linear   a + (to - a) p
    cosine   a + (to - a) (1 - cos(pi p)) / 2
"""

from __future__ import annotations

import math

from trainer.config import EntropyControlConfig
from trainer.errors import ScopeError


class Schedule:
    """The entropy target of `entropy_control.target` and `entropy_control.schedule`.

    The first target is `target`; with `auto`, `auto_fraction` times the starting entropy, or for a linear or cosine
    schedule the starting entropy itself.
    """

    def __init__(self, control: EntropyControlConfig, starting_entropy: float | None) -> None:
        """starting_entropy: measured at the first learner step, nats per token; only for `auto`.

        Raises ScopeError if `auto` gives a target outside the configured range.
        """
        self._schedule = control.schedule
        if control.target != "auto":
            self._first = control.target
            return
        if starting_entropy is None:
            raise ValueError("entropy_control.target=auto needs the starting entropy")
        moves = control.schedule.kind in ("linear", "cosine")
        self._first = starting_entropy * (1.0 if moves else control.auto_fraction)
        if not control.target_min <= self._first <= control.target_max:
            share = "" if moves else f"entropy_control.auto_fraction={control.auto_fraction:g} of "
            raise ScopeError(
                f"entropy_control.target=auto gives {self._first:.4g} nats per token ({share}the starting "
                f"entropy {starting_entropy:.4g}); it must lie in [{control.target_min:g}, {control.target_max:g}], "
                "from entropy_control.target_min to entropy_control.target_max."
            )

    def target_at(self, step: int) -> float:
        """The entropy target of learner step `step` (from 0), nats per token."""
        schedule = self._schedule
        if schedule.kind == "step":
            reached = [target for from_step, target in schedule.points if from_step <= step]
            return reached[-1] if reached else self._first
        if schedule.to is None or schedule.until_step is None:
            return self._first
        progress = (step - schedule.from_step) / (schedule.until_step - schedule.from_step)
        share = min(max(progress, 0.0), 1.0)
        if schedule.kind == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        # Unlike first + (to - first) * share, this ends exactly at `to`.
        return (1 - share) * self._first + share * schedule.to
