"""Curriculum over a mixture: the share of each part follows its measured pass rate.

A part's share is proportional to its weight times 4 p (1 - p), with p its smoothed pass rate: groups that are all right
or all wrong have no gradient, so parts where both happen get more prompts. The factor is at least `floor`, so every
pass rate stays measured. Rank 0 holds the state, and every checkpoint stores it. The mix of a step is decided as soon
as generators may sample it, from the steps learned until then, never from wall-clock time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from trainer.config import CurriculumConfig, RunConfig
from trainer.errors import ScopeError


class StepMix(NamedTuple):
    """The mixture part of each prompt of one learner step, and how many prompts each part had before the step."""

    parts: list[int]
    before: list[int]

    def place(self, slot: int) -> tuple[int, int]:
        """The part of the step's prompt `slot`, and the number of prompts that the part had before it."""
        part = self.parts[slot]
        return part, self.before[part] + self.parts[:slot].count(part)


class Curriculum:
    """Decides mixes from measured pass rates.

    weights: of the parts; places: prompts per learner step; ahead: learner steps that generators may sample ahead.
    """

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
        """Mixes of the steps that may be sampled and have not been learned, by step."""
        return dict(self._mixes)

    @property
    def shares(self) -> list[float]:
        """Share of each part in the mixes decided from here on; they add up to 1."""
        raw = [
            weight * max(self._config.floor, 1.0 if rate is None else 4 * rate * (1 - rate))
            for weight, rate in zip(self._weights, self._rates, strict=True)
        ]
        return [value / sum(raw) for value in raw]

    @property
    def pass_rates(self) -> list[float | None]:
        """Smoothed pass rate of each part; None where none was measured."""
        return list(self._rates)

    def learned(self, step: int, outcomes: Sequence[tuple[int, bool]]) -> None:
        """Update the pass rates by `step` and decide the next mix. outcomes: (part, success) of each base rollout."""
        for part in range(len(self._rates)):
            passed = [success for of, success in outcomes if of == part]
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
        """Continue from a `state` saved before learner step `step`. Raises ScopeError for another number of parts."""
        if len(state["rates"]) != len(self._rates):
            raise ScopeError(
                f"task.mixture has {len(self._rates)} parts and the checkpoint's curriculum {len(state['rates'])}: "
                "a run continues with the parts that it began with."
            )
        self._rates, self._owed, self._given = list(state["rates"]), list(state["owed"]), list(state["given"])
        self._mixes = {step: StepMix(list(parts), list(before)) for step, parts, before in state["mixes"]}
        self._decide(step)

    def _decide(self, step: int) -> None:
        """Decide the mixes of all steps that may be sampled while `step` is the next to be learned."""
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
    """The curriculum of a run; None where the mixture's weights are fixed."""
    if config.task.curriculum.kind == "fixed":
        return None
    return Curriculum(
        config.task.curriculum,
        [part.weight for part in config.task.mixture],
        places=config.rollout.prompts_per_step,
        ahead=config.pipeline.max_staleness,
    )
