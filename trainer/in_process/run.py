"""A run in a single process, in which sampler, learner and control law alternate; for sweeps of many short runs.

Task, loss, learner, advantages, batching and control law are those of the full system. The differences: the learner's
weights sample (no vLLM, Ray or Redis), and staleness is exact: rollouts of step n are sampled with the policy and
temperature of step n - max_staleness, as in the full system when generators are never behind.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from trainer.config import RewardConfig, RunConfig
from trainer.entropy_control import Controller, make_controller
from trainer.entropy_control.base import Limit
from trainer.entropy_control.schedule import Schedule
from trainer.errors import ScopeError
from trainer.in_process.rollouts import InProcessRollouts
from trainer.in_process.saved_state import SampledStep, SavedState, read_state, write_state
from trainer.learner.learner import Learner
from trainer.learner.process_group import join_process_group
from trainer.pass_at_k import pass_at_k
from trainer.policy.evaluate import measure
from trainer.prompts.codec import PromptCodec
from trainer.regularizers import make_strength_law
from trainer.rollouts.batch import shard_batches
from trainer.rollouts.curriculum import make_curriculum
from trainer.rollouts.trajectory import Group
from trainer.rollouts.usable_problems import UsableProblems
from trainer.tasks import Environment, make_task
from trainer.tasks.mixture import Mixture
from trainer.tasks.verification import Verification

POLICY = "policy"
"""subdirectory of the weights and the optimizer state"""


@dataclass(frozen=True)
class InProcessStep:
    """One learner step, with the fields of the full system's step record. Entropies are nats per token."""

    step: int
    entropy: float
    entropy_error: float
    """standard error of the entropy; NaN with fewer than two prompts"""
    entropy_target: float | None
    """None without entropy control, and until the entropy is measured"""
    reference: float | None
    temperature: float
    alpha: float
    surprisal_exponent: float
    sampling_temperature: float
    saturated: bool
    limit: Limit
    reward: float
    adaptive_reward: float
    positives: int
    auxiliary_positives: int
    auxiliary_effective: float
    auxiliary_largest_share: float
    auxiliary_length: float
    auxiliary_weighted_length: float
    response_length: float
    clip_fraction: float
    gradient_norm: float
    unscored_rollouts: int
    """rollouts to which the verifier gave no score; they count in nothing else here"""
    generated_tokens: int
    """response tokens sampled for this step, of both roles"""
    sample_seconds: float
    learn_seconds: float
    """CPU time of this process, as `sample_seconds`, so that other load on the machine does not count"""


@dataclass(frozen=True)
class InProcessEvaluation:
    """The evaluation on held-out problems at one step, temperature 1."""

    step: int
    entropy: float
    samples: int
    correct: list[int]
    """correct samples of each problem"""
    unscored: int = 0
    """samples to which the verifier gave no score; they are not correct"""

    def pass_at(self, k: int) -> float:
        """Mean pass@k over the problems."""
        return float(pass_at_k(self.samples, self.correct, k).mean())


def initialise_process_group() -> None:
    """Create a process group of size 1 with gloo, for a process that is not a Ray Train worker. Idempotent."""
    if dist.is_initialized():
        return
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(place, LOCAL_RANK="0")
    join_process_group("gloo")


class InProcessRun:
    """A run of `config` on one learner rank, from the policy in `model_dir`.

    target_at: the entropy target by learner step, nats per token; None: the configured schedule. controller: None: the
    configured one.
    """

    def __init__(
        self,
        config: RunConfig,
        model_dir: Path,
        target_at: Callable[[int], float] | None = None,
        controller: Controller | None = None,
    ) -> None:
        initialise_process_group()
        self._config = config
        self._target_at = target_at
        self._schedule: Schedule | None = None
        self._starting_entropy: float | None = None
        self._task = make_task(config.task)
        self._codec = PromptCodec.load(model_dir, config)
        self._problems = UsableProblems(self._task, config, self._codec)
        self._learner = Learner(config, model_dir)
        self._controller = controller or make_controller(
            config.entropy_control, max_staleness=config.pipeline.max_staleness
        )
        self._strength_law = make_strength_law(config.regularizer)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._rollouts = InProcessRollouts(
            config, self._task, self._learner.model, self._codec, self._generator
        )
        self._curriculum = make_curriculum(config)
        self._step = 0
        self._ahead: deque[SampledStep] = deque()

    def steps(self) -> Iterator[InProcessStep]:
        """Train step by step until `config.steps` are done. `evaluate` may be called between steps."""
        while self._step < self._config.steps:
            step = self._step
            self._sample_up_to(step)
            sampled = self._ahead.popleft()
            groups = sampled.groups
            started = time.process_time()
            acting = self._controller.actuators
            (batch,) = shard_batches(groups, self._config)
            metrics = self._learner.step(batch, acting, strength=self._strength_law.strength, step=step)
            target = self._target(step, metrics.entropy) if self._config.tracks_entropy_target else None
            if target is not None:
                self._strength_law.update(metrics.entropy, target)
                self._controller.update(
                    metrics.entropy,
                    target,
                    positives=metrics.positives,
                    rollouts=metrics.adaptive_rollouts,
                    error=metrics.entropy_error,
                )
            if self._curriculum is not None:
                self._curriculum.learned(step, _base_outcomes(groups))
            self._step += 1
            yield InProcessStep(
                step=step,
                entropy=metrics.entropy,
                entropy_error=metrics.entropy_error,
                entropy_target=target,
                reference=self._controller.state().get("reference"),
                temperature=acting.temperature,
                alpha=acting.alpha,
                surprisal_exponent=acting.surprisal_exponent,
                sampling_temperature=sampled.temperature,
                saturated=self._controller.actuators.saturated,
                limit=self._controller.actuators.limit,
                reward=metrics.reward_base,
                adaptive_reward=metrics.reward_adaptive,
                positives=metrics.positives,
                auxiliary_positives=metrics.auxiliary_positives,
                auxiliary_effective=metrics.auxiliary_effective,
                auxiliary_largest_share=metrics.auxiliary_largest_share,
                auxiliary_length=metrics.auxiliary_length,
                auxiliary_weighted_length=metrics.auxiliary_weighted_length,
                response_length=metrics.response_length,
                clip_fraction=metrics.clip_fraction,
                gradient_norm=metrics.gradient_norm,
                unscored_rollouts=sum(not t.scored for group in groups for t in group.trajectories),
                generated_tokens=sampled.tokens,
                sample_seconds=sampled.seconds,
                learn_seconds=time.process_time() - started,
            )

    def evaluate(self, step: int, *, samples: int | None = None) -> InProcessEvaluation:
        """Evaluate the current policy on the held-out problems of `evaluation`.

        For tasks with an environment, the entropy is an estimate: the mean surprisal of the tokens.
        """
        evaluation = self._config.evaluation
        if isinstance(self._task, Environment):
            return self._evaluate_turns(step, samples or evaluation.samples)
        found = measure(
            self._learner.model,
            self._codec,
            Verification(self._task, self._config.task),
            [self._problems.heldout(i) for i in range(evaluation.problems)],
            samples=samples or evaluation.samples,
            max_new_tokens=self._config.rollout.max_new_tokens,
            seed=self._config.seed,
        )
        return InProcessEvaluation(step, found.entropy, found.samples, found.correct, found.unscored)

    def _evaluate_turns(self, step: int, samples: int) -> InProcessEvaluation:
        problems = [self._problems.heldout(i) for i in range(self._config.evaluation.problems)]
        generator = torch.Generator().manual_seed(self._config.seed)
        unshaped = self._config.task.model_copy(update={"reward": RewardConfig()})
        config = self._config.model_copy(update={"task": unshaped})
        rollouts = InProcessRollouts(config, self._task, self._learner.model, self._codec, generator)
        made, tokens = rollouts.rollouts(problems, samples, 1.0, 1.0, step)
        surprisal = -sum(float((t.logprobs * t.mask).sum()) for of in made for t in of)
        correct = [sum(t.succeeded for t in of) for of in made]
        unscored = sum(not t.scored for of in made for t in of)
        return InProcessEvaluation(step, surprisal / tokens, samples, correct, unscored)

    @property
    def step(self) -> int:
        """The next learner step."""
        return self._step

    def save(self, directory: Path) -> None:
        """Save the whole run between two steps, for `resume`; creates the directory."""
        self._learner.snapshot(directory, POLICY).write()
        state = SavedState(
            step=self._step,
            controller=self._controller.state(),
            strength_law=self._strength_law.state(),
            curriculum=None if self._curriculum is None else self._curriculum.state(),
            starting_entropy=self._starting_entropy,
            generator=self._generator.get_state().numpy().tobytes(),
            ahead=list(self._ahead),
        )
        write_state(directory, state)

    def resume(self, directory: Path) -> None:
        """Continue a run of the same configuration that `save` wrote, as if it had not been interrupted."""
        state = read_state(directory)
        self._learner.load(directory, POLICY)
        self._step = state.step
        self._controller.restore(state.controller)
        self._strength_law.restore(state.strength_law)
        if self._curriculum is not None and state.curriculum is not None:
            self._curriculum.restore(state.curriculum, state.step)
        if state.starting_entropy is not None:
            self._schedule = self._begin_schedule(state.starting_entropy)
        self._generator.set_state(torch.frombuffer(bytearray(state.generator), dtype=torch.uint8))
        self._ahead = deque(state.ahead)

    def start_from(self, directory: Path, step: int) -> None:
        """Load only the weights and optimizer state that `save` wrote, and begin at learner step `step`.

        Raises ScopeError with a curriculum.
        """
        if self._curriculum is not None:
            raise ScopeError(
                "an in-process run cannot start in the middle of a curriculum (task.curriculum.kind)"
            )
        self._learner.load(directory, POLICY)
        self._step = step

    def _target(self, step: int, entropy: float) -> float | None:
        if self._target_at is not None:
            return self._target_at(step)
        if self._schedule is None:
            if not math.isfinite(entropy):
                return None
            self._schedule = self._begin_schedule(entropy)
        return self._schedule.target_at(step)

    def _begin_schedule(self, entropy: float) -> Schedule:
        self._starting_entropy = entropy
        return Schedule(self._config.entropy_control, entropy)

    def _sample_up_to(self, step: int) -> None:
        """Sample all steps that the staleness limit allows the policy of `step` to sample and that are missing."""
        newest = min(step + self._config.pipeline.max_staleness, self._config.steps - 1)
        for wanted in range(step + len(self._ahead), newest + 1):
            started = time.process_time()
            temperature = self._controller.actuators.temperature
            groups, tokens = [], 0
            mix = None if self._curriculum is None else self._curriculum.mixes[wanted]
            for role in self._config.roles:
                heat = self._config.rollout.base_temperature if role == "base" else temperature
                made, count = self._rollouts.groups(wanted, step, role, heat, mix)
                groups += made
                tokens += count
            seconds = time.process_time() - started
            self._ahead.append(
                SampledStep(groups=groups, temperature=temperature, tokens=tokens, seconds=seconds)
            )


def _base_outcomes(groups: Sequence[Group]) -> list[tuple[int, bool]]:
    """The part of the mixture of each scored base rollout, and whether it succeeded."""
    return [
        (Mixture.part_of(group.problem_id), trajectory.succeeded)
        for group in groups
        if group.role == "base"
        for trajectory in group.trajectories
        if trajectory.scored
    ]
