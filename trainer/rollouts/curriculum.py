"""Curriculum over a mixture: how often each part comes follows the pass rate measured on it.

A part's share is its weight times 4 p (1 - p), p its smoothed pass rate: groups that are all right or all wrong have no
gradient, so prompts go where both happen. No share falls below `floor` of the part's weight, so that every pass rate
stays measured. Pure state on rank 0, stored in each checkpoint; the mix of a step is decided as soon as generators may
work on it, from the steps that were learned until then, and never from time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from trainer.config import CurriculumConfig, RunConfig
from trainer.errors import ScopeError


class StepMix(NamedTuple):
    """The parts of one learner step's places, and how many places each part had before the step."""

    parts: list[int]
    before: list[int]

    def place(self, slot: int) -> tuple[int, int]:
        """The part of place `slot`, and that place's number among all that the part ever had."""
        part = self.parts[slot]
        return part, self.before[part] + self.parts[:slot].count(part)


class Curriculum:
    """weights: of the parts; places: prompts of a learner step; ahead: steps that generators may run ahead."""

    def __init__(
        self, config: CurriculumConfig, weights: Sequence[float], *, places: int, ahead: int
    ) -> None:
        self._config, self._places, self._ahead = config, places, ahead
        self._weights = [weight / sum(weights) for weight in weights]
        self._rates: list[float | None] = [None] * len(weights)
        self._owed = [0.0] * len(weights)
        self._given = [0] * len(weights)
        self._mixes: dict[int, StepMix] = {}
        self._decide(0)

    @property
    def mixes(self) -> dict[int, StepMix]:
        """Mixes of the steps that are not learned yet and may be sampled, by step."""
        return dict(self._mixes)

    @property
    def shares(self) -> list[float]:
        """Of each part in the mixes that are decided from here on; they add up to 1."""
        raw = [
            weight * max(self._config.floor, 1.0 if rate is None else 4 * rate * (1 - rate))
            for weight, rate in zip(self._weights, self._rates, strict=True)
        ]
        return [value / sum(raw) for value in raw]

    @property
    def pass_rates(self) -> list[float | None]:
        """Smoothed, by part; None where none was measured."""
        return list(self._rates)

    def learned(self, step: int, rewards: Sequence[tuple[int, float]]) -> None:
        """Take what was measured at `step`: (part, reward) of each base rollout. Decides the next mix."""
        for part in range(len(self._rates)):
            passed = [reward >= 1 - 1e-6 for of, reward in rewards if of == part]
            if not passed:
                continue
            now, before = sum(passed) / len(passed), self._rates[part]
            self._rates[part] = now if before is None else before + self._config.smoothing * (now - before)
        self._mixes.pop(step, None)
        self._decide(step + 1)

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "rates": list(self._rates),
            "owed": list(self._owed),
            "given": list(self._given),
            "mixes": [[step, mix.parts, mix.before] for step, mix in sorted(self._mixes.items())],
        }

    def restore(self, state: dict[str, Any], step: int) -> None:
        """Go on from what `state` gave before learner step `step`. Raises ScopeError where the parts are others."""
        if len(state["rates"]) != len(self._rates):
            raise ScopeError(
                f"task.mixture has {len(self._rates)} parts and the checkpoint's curriculum {len(state['rates'])}: "
                "a run goes on with the parts that it began with."
            )
        self._rates, self._owed, self._given = list(state["rates"]), list(state["owed"]), list(state["given"])
        self._mixes = {step: StepMix(list(parts), list(before)) for step, parts, before in state["mixes"]}
        self._decide(step)

    def _decide(self, step: int) -> None:
        """Decide the mixes up to the newest step that may be sampled while `step` is the next to be learned."""
        for further in range(max(self._mixes, default=step - 1) + 1, step + self._ahead + 1):
            shares, before, parts = self.shares, list(self._given), []
            for _ in range(self._places):
                self._owed = [owed + share for owed, share in zip(self._owed, shares, strict=True)]
                part = self._owed.index(max(self._owed))
                self._owed[part] -= 1
                self._given[part] += 1
                parts.append(part)
            self._mixes[further] = StepMix(parts, before)


def make_curriculum(config: RunConfig) -> Curriculum | None:
    """The curriculum of a run; None where the mixture's weights stay as they are."""
    if config.task.curriculum.kind == "fixed":
        return None
    return Curriculum(
        config.task.curriculum,
        [part.weight for part in config.task.mixture],
        places=config.rollout.prompts_per_step,
        ahead=config.pipeline.max_staleness,
    )
