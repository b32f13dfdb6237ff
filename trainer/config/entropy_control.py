"""The `entropy_control` block: control laws, the entropy target and its schedule. Targets are nats per token."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Finite, Positive, SurprisalExponent
from trainer.config.engine_limits import HOTTEST, Temperature


class PaperLaw(Block):
    """T = clip(1 + H0 - H, t_min, t_max); alpha fixed (arXiv 2510.08141)."""

    t_min: Temperature = Field(default=0.8, description="lowest temperature")
    t_max: Temperature = Field(default=1.2, description="highest temperature")
    alpha: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1 / 64, description="weight of the auxiliary loss"
    )
    surprisal_exponent: SurprisalExponent = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> PaperLaw:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min={self.t_min} must not exceed t_max={self.t_max}")
        return self


class BangBangLaw(Block):
    """T = t_hot below the entropy target, t_cold at or above it; alpha fixed (AEPO, arXiv 2510.08141v1)."""

    t_cold: Temperature = Field(default=0.8, description="temperature at or above the entropy target")
    t_hot: Temperature = Field(default=1.2, description="temperature below the entropy target")
    alpha: Annotated[float, Field(ge=0, le=100)] = Field(
        default=1 / 64, description="weight of the auxiliary loss"
    )
    surprisal_exponent: SurprisalExponent = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> BangBangLaw:
        if self.t_cold > self.t_hot:
            raise ValueError(f"t_cold={self.t_cold} must not exceed t_hot={self.t_hot}")
        return self


SHORTEST_MEMORY = 20
"""learner steps: fewer measurements are too few to estimate the gain of the plant"""


class SplitRangeLaw(Block):
    """PID control of temperature, surprisal exponent and alpha in split range; zero output leaves all at rest."""

    plant_gain: Positive = Field(
        default=0.016,
        description="change of entropy per step at full output, nats/step; a larger value gives smaller "
        "controller gains",
    )
    gain_memory: Annotated[float, Field(ge=0, le=10_000)] = Field(
        default=60.0,
        description="learner steps over which the law measures the gain of the plant, to raise plant_gain up to "
        "fourfold if entropy responds more strongly; steps that tell nothing about it do not count; 0: never",
    )
    lag_steps: Annotated[float, Field(ge=0, le=100)] = Field(
        default=5.0,
        description="lag by the momentum of the optimizer, learner steps; 0: no derivative action",
    )
    response_steps: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=9.0, description="time constant of the closed loop, learner steps"
    )
    back_calculation: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.25, description="anti-windup gain (back-calculation), 1/step"
    )
    ramp: Annotated[float, Field(gt=0, le=10)] = Field(
        default=0.007, description="largest rate at which the reference follows the entropy target, nats/step"
    )
    lead: Annotated[float, Field(gt=0, le=10)] = Field(
        default=0.05, description="largest distance of the reference ahead of the measured entropy, nats"
    )
    t_min: Temperature = Field(default=0.6, description="lowest temperature, below 1")
    t_max: Temperature = Field(default=1.5, description="highest temperature, above 1")
    success_floor: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.02,
        description="share of adaptive rollouts that must succeed; while fewer do, the temperature is drawn back "
        "towards 1 and the law is `starved`; 0: never",
    )
    alpha: Annotated[float, Field(ge=0, le=100)] = Field(default=0.3, description="alpha at zero output")
    alpha_max: Annotated[float, Field(ge=0, le=100)] = Field(default=2.0, description="alpha at full output")
    surprisal_exponent: SurprisalExponent = 0.5
    surprisal_exponent_max: SurprisalExponent = 3.0

    @model_validator(mode="after")
    def _ranges(self) -> SplitRangeLaw:
        if not self.t_min <= 1 <= self.t_max:
            raise ValueError(
                f"t_min={self.t_min} and t_max={self.t_max} must enclose 1, the neutral temperature"
            )
        for name in ("alpha", "surprisal_exponent"):
            rest, largest = getattr(self, name), getattr(self, f"{name}_max")
            if rest > largest:
                raise ValueError(f"{name}={rest} must not exceed {name}_max={largest}")
        if 0 < self.gain_memory < SHORTEST_MEMORY:
            raise ValueError(f"gain_memory={self.gain_memory} must be 0 or at least {SHORTEST_MEMORY}")
        return self


class ScheduleConfig(Block):
    """The configured entropy target as a function of the learner step; a target set through the API overrides it.

    `hold`: always `entropy_control.target`. `step`: first `entropy_control.target`, then each of `points` from its step
    on. `linear` and `cosine` (half a period): from `entropy_control.target` at `from_step` to `to` at `until_step`,
    constant before and after.
    """

    kind: Literal["hold", "step", "linear", "cosine"] = Field(
        default="hold", description="shape of the target over the learner steps"
    )
    points: tuple[tuple[Annotated[int, Field(ge=0)], Finite], ...] = Field(
        default=(), description="step: pairs [learner step, nats per token] in ascending order of steps"
    )
    to: Finite | None = Field(
        default=None, description="linear, cosine: the final entropy target, nats per token"
    )
    from_step: Annotated[int, Field(ge=0)] = Field(
        default=0, description="linear, cosine: learner step at which the change begins"
    )
    until_step: int | None = Field(
        default=None,
        description="linear, cosine: learner step from which the target is `to`, above from_step",
    )

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> ScheduleConfig:
        if self.kind == "step":
            self._refuse_what_moves("'step'")
            if not self.points:
                raise ValueError(
                    "points=[] must have at least one pair [learner step, target] for kind='step'"
                )
            for (before, _), (after, _) in pairwise(self.points):
                if after <= before:
                    raise ValueError(
                        f"points: learner step {after} follows {before}; the steps must be ascending"
                    )
            return self
        if self.points:
            raise ValueError(f"points={[list(p) for p in self.points]} needs kind='step', not {self.kind!r}")
        if self.kind == "hold":
            self._refuse_what_moves("'hold'")
        elif self.to is None or self.until_step is None:
            raise ValueError(
                f"kind={self.kind!r} needs both to (nats per token) and until_step (a learner step); "
                f"they are to={self.to} and until_step={self.until_step}"
            )
        elif self.until_step <= self.from_step:
            raise ValueError(f"until_step={self.until_step} must be above from_step={self.from_step}")
        return self

    def _refuse_what_moves(self, kind: str) -> None:
        for name, unset in (("to", None), ("from_step", 0), ("until_step", None)):
            if getattr(self, name) != unset:
                raise ValueError(f"{name}={getattr(self, name)} needs kind='linear' or 'cosine', not {kind}")

    def targets(self) -> Iterator[tuple[str, float]]:
        """Every entropy target in this block by its field, nats per token."""
        if self.to is not None:
            yield "to", self.to
        yield from ((f"points.{i}.1", target) for i, (_, target) in enumerate(self.points))


class EntropyControlConfig(Block):
    """The SCOPE regularizer and the control law that drives it. Targets are nats per token."""

    kind: Literal["none", "paper", "aepo_v1", "split_range"] = Field(
        default="split_range", description="control law; none: no entropy control"
    )
    target: Finite | Literal["auto"] = Field(
        default=0.4,
        description="entropy target H0, nats per token, from target_min to target_max; auto: see auto_fraction",
    )
    auto_fraction: Annotated[float, Field(gt=0, le=2)] = Field(
        default=0.7,
        description="target=auto: the target as a fraction of the entropy at the first learner step; a linear or "
        "cosine schedule starts at that entropy itself",
    )
    target_min: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.01, description="lowest target allowed, nats per token"
    )
    target_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=5.0, description="highest target allowed, nats per token"
    )
    target_max_change: Positive = Field(
        default=1.0, description="largest change of the target in one request, nats"
    )
    samples: Literal["positives", "negatives"] = Field(
        default="positives",
        description="adaptive rollouts in the auxiliary loss: positives raises the probability of correct ones; "
        "negatives (experimental) lowers that of incorrect ones, sampled at 1/T for the law's T, without "
        "surprisal weights",
    )
    positives_from: Literal["adaptive", "all"] = Field(
        default="adaptive",
        description="rollouts whose positives the auxiliary loss learns from; all: base rollouts as well, which need "
        "rollout.base_temperature=1",
    )
    reward_from: Literal["base", "all"] = Field(
        default="base",
        description="rollouts that teach the reward; all: adaptive ones as well, in the group of the base rollouts of "
        "their problem, with importance weights for their temperature (at most loss.tis_cap); needs "
        "rollout.base_temperature=1",
    )
    surprisal: Literal["answer", "answer_mean", "prompt", "token"] = Field(
        default="answer",
        description="the surprisal s in the weights s^rho of positives: answer: of the whole answer; answer_mean: per "
        "token of the answer; prompt: of the whole answer, and every problem weighs as much as it has positives; "
        "token: of each token, as the weight of that token",
    )
    evidence_floor: Annotated[float, Field(ge=0, le=10_000)] = Field(
        default=8.0,
        description="normalization=positives: effective number of positives below which the auxiliary loss weighs "
        "less, in proportion, so that a lone success does not carry all of alpha; 0: never",
    )
    normalization: Literal["sum", "positives"] = Field(
        default="positives",
        description="weight of a sample in the auxiliary loss: sum: 1/G'; positives: 1 / number of samples used",
    )
    schedule: ScheduleConfig = ScheduleConfig()
    paper: PaperLaw = PaperLaw()
    aepo_v1: BangBangLaw = BangBangLaw()
    split_range: SplitRangeLaw = SplitRangeLaw()

    @model_validator(mode="after")
    def _targets_in_range(self) -> EntropyControlConfig:
        if self.target_min >= self.target_max:
            raise ValueError(f"target_min={self.target_min} must be below target_max={self.target_max}")
        targets = [(f"schedule.{name}", target) for name, target in self.schedule.targets()]
        if self.target != "auto":
            targets.insert(0, ("target", self.target))
        for name, target in targets:
            if not self.target_min <= target <= self.target_max:
                raise ValueError(
                    f"{name}={target} must lie in [{self.target_min}, {self.target_max}] nats per token"
                )
        return self

    @model_validator(mode="after")
    def _negatives_are_adaptive(self) -> EntropyControlConfig:
        if self.samples == "negatives" and self.positives_from == "all":
            raise ValueError("positives_from='all' needs samples='positives', not 'negatives'")
        return self

    @model_validator(mode="after")
    def _inverse_temperatures_in_range(self) -> EntropyControlConfig:
        coldest = {
            "paper": ("t_min", self.paper.t_min),
            "aepo_v1": ("t_cold", self.aepo_v1.t_cold),
            "split_range": ("t_min", self.split_range.t_min),
        }
        if self.samples == "negatives" and self.kind != "none":
            name, temperature = coldest[self.kind]
            if temperature < 1 / HOTTEST:
                raise ValueError(
                    f"{self.kind}.{name}={temperature} must be at least {1 / HOTTEST} with samples='negatives': they "
                    f"are sampled at its inverse, and engines sample at up to {HOTTEST}"
                )
        return self
