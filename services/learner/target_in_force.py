"""The entropy target of each learner step: the configured schedule's, or one set through the API."""

from __future__ import annotations

import math

from redis import Redis

from services.entropy_target.documents import DesiredTarget
from services.entropy_target.store import (
    mark_applied,
    read_applied,
    read_entropy_target,
    record_starting_entropy,
)
from trainer.config import RunConfig
from trainer.entropy_control.schedule import Schedule


class TargetInForce:
    """The entropy target as rank 0 applies it. It changes at step boundaries, and once when `auto` is measured."""

    def __init__(
        self,
        redis: Redis,
        run_id: str,
        config: RunConfig,
        epoch: int,
        starting_entropy: float | None,
    ) -> None:
        """starting_entropy: from the checkpoint, nats per token; None: that of the entropy target document.

        Raises ScopeError when a target of `auto` is out of the allowed range.
        """
        self._redis, self._run_id, self._epoch = redis, run_id, epoch
        self._control, self._tracks = config.entropy_control, config.tracks_entropy_target
        self._schedule: Schedule | None = None
        self._document = self._read()
        self._starting_entropy: float | None = None
        known = self._document.starting_entropy if starting_entropy is None else starting_entropy
        self._begin_schedule(known)
        self._step = 0
        self._value: float | None = None

    @property
    def value(self) -> float | None:
        """The target in force, nats per token; None without entropy control, and while `auto` is not measured."""
        return self._value

    @property
    def generation(self) -> int:
        """Generation of the entropy target document that was read last."""
        return self._document.generation

    @property
    def starting_entropy(self) -> float | None:
        """Policy entropy of the run's first learner step, nats per token; None until it is measured."""
        return self._starting_entropy

    def begin(self, step: int) -> None:
        """Read the entropy target at the boundary before `step` and record it as in force from there."""
        self._step, self._document = step, self._read()
        self._mark()

    def measured(self, entropy: float) -> None:
        """Take the entropy of the step, nats per token; the run's first finite one is its starting entropy.

        It is measured before any update, on a full batch. Raises ScopeError when a target of `auto` is out of range.
        """
        if self._starting_entropy is None and math.isfinite(entropy):
            self._begin_schedule(entropy)
            self._mark()

    def _begin_schedule(self, starting_entropy: float | None) -> None:
        auto = self._control.target == "auto"
        if self._tracks and not (auto and starting_entropy is None):
            self._schedule = Schedule(self._control, starting_entropy)
        if starting_entropy is not None:
            self._starting_entropy = starting_entropy
            record_starting_entropy(self._redis, self._run_id, starting_entropy, self._epoch)

    def _mark(self) -> None:
        start, since = self._began()
        if not self._tracks:
            self._value = None
        elif self._document.source == "api" and self._document.target is not None:
            self._value = _moving(start, self._document.target, self._step - since, self._document.over_steps)
        else:
            self._value = self._schedule.target_at(self._step) if self._schedule else None
        generation = self._document.generation
        mark_applied(self._redis, self._run_id, generation, self._step, self._epoch, self._value, start)

    def _began(self) -> tuple[float | None, int]:
        """The target before the newest generation, nats per token, and the step from which the newest holds."""
        applied = read_applied(self._redis, self._run_id)
        if applied is None:
            return None, self._step
        if applied.generation != self._document.generation:
            return applied.target, self._step
        # After a rollback the generation holds from an earlier step than the recorded one.
        return applied.start, min(applied.step, self._step)

    def _read(self) -> DesiredTarget:
        entropy_target = read_entropy_target(self._redis, self._run_id)
        if entropy_target is None:
            raise RuntimeError(f"run {self._run_id} has no entropy target in Redis: its data is gone")
        return entropy_target


def _moving(start: float | None, target: float, steps: int, over_steps: int) -> float:
    """The target in step `steps` (from 0) of a linear ramp over `over_steps` steps; step 0 moves by one increment."""
    if start is None or steps + 1 >= over_steps:
        return target
    return start + (target - start) * (steps + 1) / over_steps
