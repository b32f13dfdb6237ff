"""The root of the configuration, and the constraints between its blocks."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block
from trainer.config.engine_limits import Seed
from trainer.config.entropy_control import EntropyControlConfig
from trainer.config.learner import CheckpointConfig, DeterminismConfig, LearnerConfig
from trainer.config.model import ModelConfig, WarmStartConfig
from trainer.config.paths import PathText
from trainer.config.regularizer import RegularizerConfig
from trainer.config.rollout import EvaluationConfig, GeneratorConfig, RolloutConfig, RolloutSamplesConfig
from trainer.config.service import (
    ControlPlaneConfig,
    LoggerName,
    PipelineConfig,
    RayConfig,
    RedisConfig,
    WandbConfig,
    WeightsConfig,
)
from trainer.config.task import TaskConfig
from trainer.config.training import LossConfig, OptimizerConfig


class RunConfig(Block):
    """The configuration of a run."""

    seed: Seed = Field(default=1, description="seed of the run: order of the problems, sampling and training")
    steps: Annotated[int, Field(ge=1)] = Field(default=160, description="learner steps")
    runs_dir: PathText = Field(default="runs", description="directory with one subdirectory for each run")
    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    rollout: RolloutConfig = RolloutConfig()
    pipeline: PipelineConfig = PipelineConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    learner: LearnerConfig = LearnerConfig()
    generators: GeneratorConfig = GeneratorConfig()
    weights: WeightsConfig = WeightsConfig()
    entropy_control: EntropyControlConfig = EntropyControlConfig()
    regularizer: RegularizerConfig = RegularizerConfig()
    redis: RedisConfig = RedisConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    determinism: DeterminismConfig = DeterminismConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    rollout_samples: RolloutSamplesConfig = RolloutSamplesConfig()
    control_plane: ControlPlaneConfig = ControlPlaneConfig()
    loggers: tuple[LoggerName, ...] = Field(
        default=("tensorboard",),
        description="destinations of step records besides steps.jsonl; wandb needs the extra `loggers`",
    )
    wandb: WandbConfig = WandbConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.entropy_control.kind != "none" and self.generators.adaptive == 0:
            raise ValueError(
                f"generators.adaptive=0 leaves entropy_control.kind={self.entropy_control.kind!r} without samples; "
                "use at least 1, or entropy_control.kind=none"
            )
        waits, batch = self.learner.collective_timeout_seconds, self.pipeline.batch_timeout_seconds
        if self.learner.workers > 1 and waits <= batch:
            raise ValueError(
                f"learner.collective_timeout_seconds={waits:g} must be above pipeline.batch_timeout_seconds={batch:g} "
                f"with learner.workers={self.learner.workers}: the other ranks wait while rank 0 waits for a batch"
            )
        for block in ("generators", "learner"):
            resource = getattr(self, block).ray_resource
            if resource is not None and self.ray.address is None:
                raise ValueError(
                    f"{block}.ray_resource={resource!r} needs ray.address: the local cluster of a run has no custom "
                    "resources"
                )
        if self.loss.minibatches > self.rollout.prompts_per_step:
            raise ValueError(
                f"loss.minibatches={self.loss.minibatches} must not exceed rollout.prompts_per_step="
                f"{self.rollout.prompts_per_step}: a minibatch without rollouts would still change the weights"
            )
        if self.optimizer.warmup_steps >= (self.optimizer.decay_steps or self.steps) and (
            self.optimizer.schedule != "constant"
        ):
            raise ValueError(
                f"optimizer.warmup_steps={self.optimizer.warmup_steps} leaves nothing to the "
                f"{self.optimizer.schedule} schedule, which ends at step {self.optimizer.decay_steps or self.steps}"
            )
        unread = self.groups_per_step * (1 + self.pipeline.max_staleness)
        if self.pipeline.queue_capacity < unread:
            raise ValueError(
                f"pipeline.queue_capacity={self.pipeline.queue_capacity} cannot hold the {unread} groups that "
                f"pipeline.max_staleness={self.pipeline.max_staleness} lets generators produce; raise it to {unread}"
            )
        worst = 2 * self.checkpoint.every_steps * self.groups_per_step * self.group_bytes_estimate
        if worst > self.pipeline.unacked_bytes:
            raise ValueError(
                f"checkpoint.every_steps={self.checkpoint.every_steps} keeps up to {worst:,} unacknowledged bytes in "
                f"Redis (two intervals), above pipeline.unacked_bytes={self.pipeline.unacked_bytes:,}; checkpoint at "
                "least every "
                f"{max(1, math.floor(self.checkpoint.every_steps * self.pipeline.unacked_bytes / worst))} steps"
            )
        if self.checkpoint.best_k is not None and self.checkpoint.best_k not in self.evaluation.ks:
            raise ValueError(
                f"checkpoint.best_k={self.checkpoint.best_k} must be one of evaluation.ks={list(self.evaluation.ks)}"
            )
        return self

    @model_validator(mode="after")
    def _a_broadcast_is_between_whole_gpus(self) -> RunConfig:
        learner, engine = self.learner.gpus_per_worker, self.generators.gpus_per_generator
        if self.weights.transport == "collective" and (learner or engine) and min(learner, engine) < 1:
            raise ValueError(
                f"weights.transport='collective' needs learner.gpus_per_worker and generators.gpus_per_generator of at "
                f"least 1, or 0 for both, and they are {learner:g} and {engine:g}: NCCL cannot have two members on one "
                "GPU; use weights.transport='object_store'"
            )
        return self

    @model_validator(mode="after")
    def _base_rollouts_are_at_one(self) -> RunConfig:
        for name in ("positives_from", "reward_from"):
            shared = "adaptive" in self.roles and getattr(self.entropy_control, name) == "all"
            if shared and self.rollout.base_temperature != 1:
                raise ValueError(
                    f"rollout.base_temperature={self.rollout.base_temperature:g} must be 1 with "
                    f"entropy_control.{name}='all': the loss compares base and adaptive rollouts at temperature 1"
                )
        return self

    @model_validator(mode="after")
    def _repeatable(self) -> RunConfig:
        wanted = {
            "pipeline.max_staleness": (self.pipeline.max_staleness, 0),
            "rollout.refills": (self.rollout.refills, 0),
        }
        for role in self.roles:
            wanted[f"generators.{role}"] = (getattr(self.generators, role), 1)
        if self.determinism.strict and self.evaluation.every_steps:
            raise ValueError(
                f"evaluation.every_steps={self.evaluation.every_steps} is not allowed with determinism.strict=true, "
                "only 0: evaluation requests would change the batches that the engine computes"
            )
        if self.determinism.strict:
            for name, (value, only) in wanted.items():
                if value != only:
                    raise ValueError(
                        f"{name}={value} is not allowed with determinism.strict=true, only {only}: otherwise timing "
                        "decides what a step is trained on"
                    )
        return self

    @property
    def best_k(self) -> int:
        """The k of the pass@k that decides which checkpoint is the best."""
        return self.checkpoint.best_k or min(self.evaluation.ks)

    @property
    def roles(self) -> tuple[Literal["base", "adaptive"], ...]:
        """The roles of this run's generators: ("base",) without entropy control, else ("base", "adaptive")."""
        return ("base",) if self.entropy_control.kind == "none" else ("base", "adaptive")

    @property
    def adaptive_rewards(self) -> bool:
        """Whether adaptive rollouts teach the reward, in the groups of base rollouts."""
        return "adaptive" in self.roles and self.entropy_control.reward_from == "all"

    @property
    def tracks_entropy_target(self) -> bool:
        """Whether entropy control or the regularizer tracks `entropy_control.target`."""
        return self.entropy_control.kind != "none" or self.regularizer.tracks_entropy_target

    @property
    def groups_per_step(self) -> int:
        """Groups of all roles that one learner step consumes."""
        return self.rollout.prompts_per_step * len(self.roles)

    def data_position(self, ordinal: int) -> int:
        """The position of an ordinal of the data cursor among the task's training problems; depends on the seed."""
        return self.seed * 1_000_003 + ordinal

    @property
    def group_bytes_estimate(self) -> int:
        """Upper estimate of an encoded group, bytes: 16 per response token, 4 per prompt token, 1 kB per rollout."""
        samples = max(self.rollout.base_samples, self.rollout.adaptive_samples)
        return samples * (1024 + 16 * self.rollout.max_new_tokens + 4 * self.model.max_length)
