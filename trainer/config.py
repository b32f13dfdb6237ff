"""The configuration tree: one typed, immutable object that describes a whole run.

Torch-free, so that the command line and the control plane import it cheaply. Every field has a range;
a value outside it is refused before anything starts. `trainer.config_load` reads it from YAML and overrides.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trainer.config_block import Block as Block
from trainer.config_block import Positive, RayResource
from trainer.config_control import BangBangLaw as BangBangLaw
from trainer.config_control import EntropyControlConfig
from trainer.config_control import PaperLaw as PaperLaw
from trainer.config_control import ScheduleConfig as ScheduleConfig
from trainer.config_control import SplitRangeLaw as SplitRangeLaw
from trainer.config_regularizer import RegularizerConfig
from trainer.config_rollout import EvaluationConfig as EvaluationConfig
from trainer.config_rollout import GeneratorConfig as GeneratorConfig
from trainer.config_rollout import RolloutConfig as RolloutConfig
from trainer.config_rollout import RolloutSamplesConfig as RolloutSamplesConfig
from trainer.config_task import CurriculumConfig as CurriculumConfig
from trainer.config_task import RewardConfig as RewardConfig
from trainer.config_task import TaskConfig as TaskConfig
from trainer.config_update import LoraConfig as LoraConfig
from trainer.config_update import LossConfig as LossConfig
from trainer.config_update import OptimizerConfig as OptimizerConfig

LoggerName = Literal["tensorboard", "wandb"]


class ModelConfig(Block):
    """The starting policy. `path` unset means the tiny built-in model, made by the warm start."""

    path: str | None = Field(
        default=None,
        description="Hugging Face model directory, or else hub id (owner/name); unset: the warm-started tiny model",
    )
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = Field(
        default=None, description="branch, tag or commit of a hub id; unset: its main branch"
    )
    hidden_size: Annotated[int, Field(ge=32, le=1024)] = 128
    layers: Annotated[int, Field(ge=1, le=48)] = 3
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    head_dim: Annotated[int, Field(ge=32, le=256)] = 32
    ffn_size: Annotated[int, Field(ge=32, le=8192)] = 384
    max_length: Annotated[int, Field(ge=16, le=131072)] = Field(
        default=64, description="context length, tokens"
    )
    chat: Literal["auto", "on", "off"] = Field(
        default="auto", description="prompts through the tokenizer's chat template; auto: if it has one"
    )
    system_prompt: str | None = Field(default=None, description="system message of chat prompts")

    @model_validator(mode="after")
    def _revision_of_a_path(self) -> ModelConfig:
        if self.revision is not None and self.path is None:
            raise ValueError(
                f"model.revision={self.revision!r} needs model.path, the hub id that it is a revision of"
            )
        return self


class WarmStartConfig(Block):
    """Supervised training of the tiny model on random valid solutions of training problems."""

    seed: Annotated[int, Field(ge=0)] = 3
    steps: Annotated[int, Field(ge=1)] = 800
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Positive = 2e-3
    softening: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = Field(
        default=1.45,
        description="temperature folded into the output head at the end; above 1: a more varied start",
    )
    threads: Annotated[int, Field(ge=1)] = 2
    cache_dir: str = Field(
        default="~/.cache/scope-rl/warm-start", description="finished warm starts are kept here"
    )


class PipelineConfig(Block):
    """How far generators may run ahead and how work is leased to them."""

    max_staleness: Annotated[int, Field(ge=0, le=64)] = Field(
        default=1, description="learner steps; 0 is synchronous"
    )
    queue_capacity: Annotated[int, Field(ge=1)] = Field(
        default=4096, description="unread groups before producers wait"
    )
    unacked_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        default=2 << 30, description="cap on read, unacknowledged bytes"
    )
    entry_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=16 << 20, description="size cap of one encoded group"
    )
    lease_seconds: Annotated[float, Field(ge=3, le=3600)] = Field(
        default=30.0, description="after it a silent generator's groups are made by another"
    )
    max_deliveries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3,
        description="learners in a row that may die while they work on an entry before it is dead-lettered; above "
        "learner.max_restarts, the run stops first",
    )
    batch_timeout_seconds: Annotated[float, Field(ge=1)] = Field(
        default=600.0, description="longest wait for a full batch"
    )
    ledger: bool = Field(
        default=False,
        description="generators leave in the run directory's ledger/ what they offered and Redis accepted; what the "
        "learner applied is there always",
    )


class LearnerConfig(Block):
    """DeepSpeed ZeRO under Ray Train."""

    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    zero_stage: Literal[1, 2, 3] = Field(
        default=2, description="what is partitioned: 1 optimizer state, 2 also gradients, 3 also parameters"
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the forward and backward pass")
    offload: Literal["none", "optimizer", "all"] = Field(
        default="none",
        description="what lies in host memory between uses: optimizer state, or parameters as well (ZeRO-3 only)",
    )
    lora: LoraConfig = LoraConfig()
    cpus_per_worker: Positive = Field(default=0.5, description="Ray CPUs reserved by each worker")
    gpus_per_worker: Annotated[float, Field(ge=0)] = Field(
        default=0, description="Ray GPUs of each worker; 0 trains on the CPU over gloo"
    )
    ray_resource: RayResource = Field(
        default=None,
        description="custom Ray resource of which each worker takes one, so that it runs on nodes that have it; "
        "lower-case letters, digits and _",
    )
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="torch threads of each worker")
    micro_batch_tokens: Annotated[int, Field(ge=64)] = Field(
        default=16384,
        description="padded tokens in one forward pass, at most; a single longer rollout has a pass of its own",
    )
    micro_batching: Literal["rows", "tokens"] = Field(
        default="rows",
        description="rows: equally many rows a pass, padded to the step's longest; tokens: rollouts of about one "
        "length together, padded to the longest of their pass, and prompts shared out over ranks by their tokens",
    )
    share_prompts: bool = Field(
        default=True,
        description="compute a prompt once for all its rollouts; needs full attention in every layer",
    )
    logit_chunk_tokens: Annotated[int, Field(ge=16)] = Field(
        default=4096, description="tokens whose logits exist at once, at most"
    )
    fused_head: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="log-probabilities in blocks of the vocabulary, whose whole logits then never exist; auto: from "
        "4,096 entries on",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="keep a layer's input alone and compute the rest again in the backward pass: about a third more "
        "computation for a fraction of the memory of activations",
    )
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        default=3,
        description="restarts from the newest checkpoint, in a row without a step beyond any before, until the run "
        "stops",
    )
    collective_timeout_seconds: Annotated[float, Field(ge=1, le=7 * 86400)] = Field(
        default=1800.0,
        description="longest wait of a rank for the others in a call that all make; then the learner ends, and is "
        "restarted",
    )

    @model_validator(mode="after")
    def _parameters_are_partitioned(self) -> LearnerConfig:
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError(
                f"offload='all' needs learner.zero_stage=3, not {self.zero_stage}; "
                "lower stages offload the optimizer alone (offload='optimizer')"
            )
        return self


class WeightsConfig(Block):
    """How policy versions travel from the learner to the generators."""

    transport: Literal["object_store", "collective"] = Field(
        default="object_store",
        description="object_store: through Ray's, by shared memory on one machine; collective: one broadcast to all "
        "generators, by NCCL between GPUs, which learner ranks and engines then must have to themselves, else by gloo",
    )
    timeout_seconds: Annotated[float, Field(ge=1)] = Field(
        default=60.0, description="longest wait for a generator to load a version; then it is replaced"
    )
    bucket_mib: Annotated[int, Field(ge=1)] = Field(
        default=1024,
        description="of parameters that ZeRO-3 brings together on every rank at a time, to send or keep them; and of "
        "each part of a broadcast",
    )


class RedisConfig(Block):
    """The replay queue's server. `url` unset means an embedded one, owned by the run."""

    url: str | None = Field(
        default=None, description="redis:// or rediss:// without a password (SCOPE_REDIS_PASSWORD holds it)"
    )
    server_binary: str | None = Field(
        default=None, description="embedded server program; unset: the packaged one, else PATH"
    )
    appendfsync: Literal["everysec", "always"] = "everysec"
    connect_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 5.0

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError(f"url={url!r} must begin with redis:// or rediss://")
        if "@" in url and ":" in url.split("//", 1)[1].split("@", 1)[0]:
            raise ValueError(
                "url must not hold a password; put it in the environment variable SCOPE_REDIS_PASSWORD"
            )
        return url


class CheckpointConfig(Block):
    """Checkpoints live in the run directory: the last `keep`, and the best one.

    One is due by steps or by seconds, whichever comes first.
    """

    every_steps: Annotated[int, Field(ge=1)] = Field(default=20, description="learner steps")
    every_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="one follows the first learner step that begins this long after the last; unset: by steps alone",
    )
    keep: Annotated[int, Field(ge=2)] = Field(default=3, description="the newest ones that stay")
    best_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="of the held-out pass@k whose best checkpoint stays, one of `evaluation.ks`; unset: their smallest",
    )
    asynchronous: bool = Field(
        default=True,
        description="the learner waits for a copy in host memory only; False: until the checkpoint is there, "
        "without the copy",
    )
    mirror: str | None = Field(
        default=None,
        description="fsspec URL, such as s3://bucket/folder, under which each checkpoint is kept once more; its driver "
        "(s3fs, gcsfs) must be installed, and the learner's processes need its credentials",
    )


class DeterminismConfig(Block):
    """Whether runs of one configuration are the same, bit for bit, on one machine. See docs/reliability.md."""

    strict: bool = Field(
        default=False,
        description="the same groups and the same losses in every run, resumed or not; needs one generator of each "
        "role and pipeline.max_staleness=0, and gives an engine each step as a whole, whatever "
        "generators.groups_in_flight says",
    )


class ControlPlaneConfig(Block):
    """FastAPI on Ray Serve."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1024, le=65535)] = 8080
    reads_per_minute: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=3000, description="requests of one token that read; a sixth of them may come at once"
    )
    writes_per_minute: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=120,
        description="requests of one token that change something; a sixth of them may come at once",
    )


class WandbConfig(Block):
    """Weights & Biases, where `loggers` names it. Credentials are W&B's own (`wandb login`)."""

    project: str = "scope-rl"
    entity: str | None = Field(default=None, description="team or user; unset: W&B's default")
    mode: Literal["online", "offline"] = Field(
        default="online", description="offline: into the run directory's wandb/, for `wandb sync`"
    )


class RayConfig(Block):
    """`address` unset starts a local cluster that ends with the run."""

    address: str | None = None
    dashboard: bool = True
    dashboard_port: Annotated[int, Field(ge=1024, le=65535)] = 8265
    object_store_mib: Annotated[int, Field(ge=80)] = 256


class RunConfig(Block):
    """A whole run."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 1
    steps: Annotated[int, Field(ge=1)] = 160
    runs_dir: str = "runs"
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
        description="who gets step records besides steps.jsonl; for wandb install the extra `loggers`",
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
                f"with learner.workers={self.learner.workers}: other ranks wait while the first waits for a batch"
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
                f"{self.rollout.prompts_per_step}: a minibatch without rollouts would still move the weights"
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
                f"pipeline.max_staleness={self.pipeline.max_staleness} lets generators produce; raise it to that"
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
                "only 0: what an engine samples beside its groups would decide how it computes them"
            )
        if self.determinism.strict:
            for name, (value, only) in wanted.items():
                if value != only:
                    raise ValueError(
                        f"{name}={value} is not allowed with determinism.strict=true, only {only}: otherwise timing "
                        "decides what a step learns from"
                    )
        return self

    @property
    def best_k(self) -> int:
        """k of the pass@k that decides which checkpoint is the best."""
        return self.checkpoint.best_k or min(self.evaluation.ks)

    @property
    def roles(self) -> tuple[Literal["base", "adaptive"], ...]:
        """Generator roles that this run uses: ("base",) without a regulariser, else ("base", "adaptive")."""
        return ("base",) if self.entropy_control.kind == "none" else ("base", "adaptive")

    @property
    def tracks_set_point(self) -> bool:
        """Whether anything steers the policy entropy towards `entropy_control.target`."""
        return self.entropy_control.kind != "none" or self.regularizer.tracks_set_point

    @property
    def groups_per_step(self) -> int:
        """Groups of both roles that one learner step consumes."""
        return self.rollout.prompts_per_step * len(self.roles)

    def data_position(self, ordinal: int) -> int:
        """Position in the task's stream of training problems of a data cursor's ordinal: each seed begins elsewhere."""
        return self.seed * 1_000_003 + ordinal

    @property
    def group_bytes_estimate(self) -> int:
        """Upper estimate of one encoded group, bytes: 16 a response token, 4 a prompt token, 1 kB a rollout."""
        samples = max(self.rollout.base_samples, self.rollout.adaptive_samples)
        return samples * (1024 + 16 * self.rollout.max_new_tokens + 4 * self.model.max_length)
