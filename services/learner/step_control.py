"""What rank 0 decides from each step's measurements for the steps that follow: actuators, strength, mixes."""

from __future__ import annotations

from typing import Any

from services.learner.collector import StepGroups
from services.learner.law_state import law_state, restore_laws
from services.learner.target_in_force import TargetInForce
from services.replay.actuators import ActuatorPublisher
from trainer.checkpoint.store import LearnerState
from trainer.config import RunConfig
from trainer.entropy_control import Actuators, make_controller
from trainer.learner.step_metrics import StepMetrics
from trainer.regularizers import make_strength_law
from trainer.rollouts.curriculum import Curriculum, make_curriculum
from trainer.tasks.mixture import Mixture


class StepControl:
    """The entropy controller, the regularizer's strength law and the curriculum of one learner incarnation.

    restored: state of the checkpoint that it continues from. Raises ScopeError where the curriculum's mixture has
    changed since.
    """

    def __init__(
        self,
        config: RunConfig,
        target: TargetInForce,
        publisher: ActuatorPublisher,
        restored: LearnerState | None,
    ) -> None:
        self._config, self._target, self._publisher = config, target, publisher
        self._controller = make_controller(
            config.entropy_control, max_staleness=config.pipeline.max_staleness
        )
        self._strength_law = make_strength_law(config.regularizer)
        self._curriculum = make_curriculum(config)
        if restored is not None:
            restore_laws(restored, config, self._controller, self._strength_law)
            if self._curriculum is not None and restored.curriculum is not None:
                self._curriculum.restore(restored.curriculum, restored.step)
        self._actuators = self._controller.actuators
        self._base_outcomes: list[tuple[int, bool]] = []

    @property
    def target(self) -> TargetInForce:
        """The entropy target in force."""
        return self._target

    @property
    def actuators(self) -> Actuators:
        """Actuators in force for the next step."""
        return self._actuators

    @property
    def strength(self) -> float:
        """The regularizer's strength for the next step."""
        return self._strength_law.strength

    @property
    def reference(self) -> float | None:
        """The entropy target after the controller's ramp, nats per token; None for a controller without one."""
        return self._controller.state().get("reference")

    @property
    def curriculum(self) -> Curriculum | None:
        """The curriculum of the mixture; None where its weights are fixed."""
        return self._curriculum

    def begin(self, step: int, taken: StepGroups) -> None:
        """Read the entropy target at the boundary before `step`, which learns from `taken`."""
        self._target.begin(step)
        if self._curriculum is not None:
            self._base_outcomes = _base_outcomes(taken)

    def decide(self, step: int, metrics: StepMetrics) -> None:
        """Decide actuators, strength and mixes from the measurements of `step`.

        Without an entropy target (no control, or `auto` not measured yet) actuators and strength stay as they are.
        """
        if self._curriculum is not None:
            self._curriculum.learned(step, self._base_outcomes)
        self._target.measured(metrics.entropy)
        if self._target.value is not None:
            self._actuators = self._controller.update(
                metrics.entropy,
                self._target.value,
                positives=metrics.positives,
                rollouts=metrics.adaptive_rollouts,
                error=metrics.entropy_error,
            )
            self._strength_law.update(metrics.entropy, self._target.value)

    def publish(self, step: int) -> None:
        """Publish mixes and actuators for the rollouts that policy version `step` admits."""
        if self._curriculum is not None:
            self._publisher.set_mixes(self._curriculum.mixes)
        self._publisher.set_actuators(
            self._actuators.temperature, self._actuators.alpha, step, self._target.generation
        )

    def state(self) -> dict[str, Any]:
        """Fields of `LearnerState` by name, for a checkpoint."""
        return {
            **law_state(self._config, self._controller, self._strength_law),
            "curriculum": None if self._curriculum is None else self._curriculum.state(),
            "entropy_target_generation": self._target.generation,
            "starting_entropy": self._target.starting_entropy,
        }


def _base_outcomes(taken: StepGroups) -> list[tuple[int, bool]]:
    """Mixture part and success of each scored base rollout, ordered by ordinal and not by arrival."""
    return [
        (Mixture.part_of(group.problem_id), trajectory.succeeded)
        for (role, _), (_, group) in sorted(taken.groups.items(), key=lambda item: item[0])
        if role == "base"
        for trajectory in group.trajectories
        if trajectory.scored
    ]
