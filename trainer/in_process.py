"""A whole run in one process: sampler, learner and control law in lockstep, for sweeps of many short runs.

Task, loss, learner, advantages, batching and control law are those of the full system; what differs is that the
learner's own weights sample (no vLLM, Ray or Redis), and that staleness is exact: rollouts of step n come from the
policy and the temperature of step n - max_staleness, which is what pacing makes of the full system at full speed.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.batching import shard_batches
from trainer.config import RunConfig
from trainer.control import Controller, make_controller
from trainer.control.schedule import Schedule
from trainer.learner import Learner
from trainer.pass_at_k import pass_at_k
from trainer.probe import measure, score
from trainer.process_group import join_process_group
from trainer.regularizers import make_strength_law
from trainer.sampler import Samples, sample
from trainer.tasks import make_task
from trainer.tasks.shaping import shape
from trainer.trajectory import Group, Role, Trajectory, VersionSpan


@dataclass(frozen=True)
class InProcessStep:
    """One learner step. Entropies and targets are nats per token; fields are those of the full system's record."""

    step: int
    entropy: float
    set_point: float | None
    """None where nothing steers towards it"""
    reference: float | None
    temperature: float
    alpha: float
    surprisal_exponent: float
    sampling_temperature: float
    saturated: bool
    reward: float
    adaptive_reward: float
    positives: int
    response_length: float
    clip_fraction: float
    gradient_norm: float
    generated_tokens: int
    """response tokens sampled for this step, of both roles"""
    sample_seconds: float
    learn_seconds: float
    """Processor time of this process, as `sample_seconds`: what else the machine does is not charged."""


@dataclass(frozen=True)
class InProcessEvaluation:
    """Held-out problems at one step, temperature 1."""

    step: int
    entropy: float
    samples: int
    correct: list[int]
    """fully rewarded samples of each problem"""

    def pass_at(self, k: int) -> float:
        """Mean pass@k over the problems."""
        return float(pass_at_k(self.samples, self.correct, k).mean())


def initialise_process_group() -> None:
    """A process group of one, over gloo, for a process that is no Ray Train worker. Idempotent."""
    if dist.is_initialized():
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(place, LOCAL_RANK="0")
    join_process_group("gloo")


class InProcessRun:
    """One run of `config` on one learner rank, from the policy in `model_dir`.

    target_at: the set-point of each learner step, nats per token; the configured schedule when None.
    controller: the law; the configured one when None.
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
        self._task = make_task(config.task)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_dir)
        self._learner = Learner(config, model_dir)
        self._controller = controller or make_controller(
            config.entropy_control, max_staleness=config.pipeline.max_staleness
        )
        self._strength_law = make_strength_law(config.regularizer)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._step = 0
        self._ahead: deque[tuple[list[Group], float, int, float]] = deque()
        """sampled and not yet learned from: groups, temperature, tokens, seconds"""

    def steps(self) -> Iterator[InProcessStep]:
        """Train, a step at a time, until `config.steps` are done; between two, `evaluate` may be called."""
        while self._step < self._config.steps:
            step = self._step
            self._sample_up_to(step)
            groups, temperature, tokens, sample_seconds = self._ahead.popleft()
            started = time.process_time()
            acting = self._controller.actuators
            (batch,) = shard_batches(groups, self._config)
            metrics = self._learner.step(batch, acting, strength=self._strength_law.strength, step=step)
            target = self._target(step, metrics.entropy) if self._config.tracks_set_point else None
            if target is not None:
                self._strength_law.update(metrics.entropy, target)
                self._controller.update(metrics.entropy, target, positives=metrics.positives)
            self._step += 1
            yield InProcessStep(
                step=step,
                entropy=metrics.entropy,
                set_point=target,
                reference=self._controller.state().get("reference"),
                temperature=acting.temperature,
                alpha=acting.alpha,
                surprisal_exponent=acting.surprisal_exponent,
                sampling_temperature=temperature,
                saturated=self._controller.actuators.saturated,
                reward=metrics.reward_base,
                adaptive_reward=metrics.reward_adaptive,
                positives=metrics.positives,
                response_length=metrics.response_length,
                clip_fraction=metrics.clip_fraction,
                gradient_norm=metrics.gradient_norm,
                generated_tokens=tokens,
                sample_seconds=sample_seconds,
                learn_seconds=time.process_time() - started,
            )

    def evaluate(self, step: int, *, samples: int | None = None) -> InProcessEvaluation:
        """Measure the present policy on the held-out problems of `evaluation`."""
        evaluation = self._config.evaluation
        found = measure(
            self._learner.model,
            self._tokenizer,
            self._task,
            [self._task.heldout_problem(i) for i in range(evaluation.problems)],
            samples=samples or evaluation.samples,
            max_new_tokens=self._config.rollout.max_new_tokens,
            seed=self._config.seed,
        )
        return InProcessEvaluation(step, found.entropy, found.samples, found.correct)

    def save(self, directory: Path) -> None:
        """Keep weights and optimizer, for another run to start from; neither the law nor what was sampled ahead."""
        self._learner.save(directory, "policy")

    def start_from(self, directory: Path, step: int) -> None:
        """Begin with what `save` kept, at learner step `step`."""
        self._learner.load(directory, "policy")
        self._step = step

    def _target(self, step: int, entropy: float) -> float:
        if self._target_at is not None:
            return self._target_at(step)
        if self._schedule is None:
            self._schedule = Schedule(self._config.entropy_control, entropy)
        return self._schedule.target_at(step)

    def _sample_up_to(self, step: int) -> None:
        """Sample every step that the policy of `step` may sample and that is not there yet."""
        newest = min(step + self._config.pipeline.max_staleness, self._config.steps - 1)
        for wanted in range(step + len(self._ahead), newest + 1):
            started = time.process_time()
            temperature = self._controller.actuators.temperature
            groups, tokens = [], 0
            for role in self._config.roles:
                made, count = self._sample_step(wanted, step, role, temperature)
                groups += made
                tokens += count
            self._ahead.append((groups, temperature, tokens, time.process_time() - started))

    def _sample_step(self, step: int, policy: int, role: Role, adaptive: float) -> tuple[list[Group], int]:
        rollout, base = self._config.rollout, role == "base"
        temperature = rollout.base_temperature if base else adaptive
        samples = rollout.base_samples if base else rollout.adaptive_samples
        first = step * rollout.prompts_per_step
        ordinals = range(first, first + rollout.prompts_per_step)
        problems = [self._task.train_problem(self._config.data_position(n)) for n in ordinals]
        drawn = sample(
            self._learner.model,
            self._tokenizer,
            [p.prompt for p in problems],
            samples=samples,
            temperature=temperature,
            logprob_temperature=temperature if base else 1.0,
            max_new_tokens=rollout.max_new_tokens,
            generator=self._generator,
        )
        verdicts = score(self._task, self._tokenizer, problems, drawn)
        rewards = [
            shape(verdict, int(length), self._config.task.reward, rollout.max_new_tokens).reward
            for verdict, length in zip(verdicts, drawn.lengths, strict=True)
        ]
        groups = [
            Group(
                run_id="in-process",
                task=self._task.name,
                problem_id=problem.id,
                role=role,
                ordinal=ordinal,
                sampling_temperature=temperature,
                set_point_generation=1,
                prompt_tokens=np.asarray(self._tokenizer.encode(problem.prompt), "<i4").tobytes(),
                producer_id="in-process",
                producer_sequence=ordinal,
                started_at=0.0,
                finished_at=0.0,
                trajectories=[
                    _trajectory(drawn, i * samples + j, j, policy, temperature if base else 1.0, rewards)
                    for j in range(samples)
                ],
            )
            for i, (ordinal, problem) in enumerate(zip(ordinals, problems, strict=True))
        ]
        return groups, int(drawn.lengths.sum())


def _trajectory(
    drawn: Samples, row: int, index: int, policy: int, logprob_temperature: float, rewards: Sequence[float]
) -> Trajectory:
    length = int(drawn.lengths[row])
    return Trajectory(
        group_index=index,
        response_tokens=drawn.tokens[row, :length].numpy().astype("<i4").tobytes(),
        behaviour_logprobs=drawn.logprobs[row, :length].numpy().astype("<f4").tobytes(),
        loss_mask=np.ones(length, "u1").tobytes(),
        logprob_temperature=logprob_temperature,
        versions=[VersionSpan(0, 0, policy)],
        reward=rewards[row],
        reward_components={},
        verdict="",
        finish_reason="stop" if drawn.ended[row] else "length",
    )
