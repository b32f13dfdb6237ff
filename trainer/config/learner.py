"""The learner: ranks, precision and memory; checkpoints; determinism."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block as Block
from trainer.config.block import Positive, RayResource
from trainer.config.entropy_control import BangBangLaw as BangBangLaw
from trainer.config.entropy_control import PaperLaw as PaperLaw
from trainer.config.entropy_control import ScheduleConfig as ScheduleConfig
from trainer.config.entropy_control import SplitRangeLaw as SplitRangeLaw
from trainer.config.rollout import EvaluationConfig as EvaluationConfig
from trainer.config.rollout import GeneratorConfig as GeneratorConfig
from trainer.config.rollout import RolloutConfig as RolloutConfig
from trainer.config.rollout import RolloutSamplesConfig as RolloutSamplesConfig
from trainer.config.task import CurriculumConfig as CurriculumConfig
from trainer.config.task import RewardConfig as RewardConfig
from trainer.config.task import TaskConfig as TaskConfig
from trainer.config.training import LoraConfig as LoraConfig
from trainer.config.training import LossConfig as LossConfig
from trainer.config.training import OptimizerConfig as OptimizerConfig


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
    """Bit-identical runs of one configuration on one machine. See docs/explanation/reliability.md."""

    strict: bool = Field(
        default=False,
        description="the same groups and the same losses in every run, resumed or not; needs one generator of each "
        "role and pipeline.max_staleness=0, and gives an engine each step as a whole, whatever "
        "generators.groups_in_flight says",
    )
