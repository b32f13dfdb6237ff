"""Configuration of the learner: ranks, precision, memory; checkpoints; determinism."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Positive, RayResource
from trainer.config.paths import PathText
from trainer.config.training import LoraConfig


class LearnerConfig(Block):
    """The learner: DeepSpeed ZeRO under Ray Train."""

    workers: Annotated[int, Field(ge=1, le=4096)] = Field(default=1, description="learner ranks")
    zero_stage: Literal[1, 2, 3] = Field(
        default=2,
        description="partitioned over ranks: 1 the optimizer state, 2 also gradients, 3 also parameters",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the forward and backward pass"
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        default="none",
        description="kept in host memory between uses: optimizer: its state; all: also parameters (ZeRO-3 only)",
    )
    lora: LoraConfig = LoraConfig()
    cpus_per_worker: Positive = Field(default=0.5, description="Ray CPUs reserved per worker")
    gpus_per_worker: Annotated[float, Field(ge=0)] = Field(
        default=0, description="Ray GPUs per worker; 0: train on CPUs with gloo"
    )
    ray_resource: RayResource = Field(
        default=None,
        description="custom Ray resource of which each worker takes one unit, to place workers on nodes that have "
        "it; lower-case letters, digits and _",
    )
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="torch threads per worker")
    micro_batch_tokens: Annotated[int, Field(ge=64)] = Field(
        default=16384,
        description="most padded tokens in one forward pass; a single longer rollout has its own pass",
    )
    micro_batching: Literal["rows", "tokens"] = Field(
        default="rows",
        description="rows: the same number of rows in each pass, padded to the longest of the step; tokens: "
        "rollouts of similar length in one pass, padded to its longest, and prompts balanced over ranks by tokens",
    )
    share_prompts: bool = Field(
        default=True,
        description="compute each prompt once for all its rollouts; needs full attention in every layer",
    )
    logit_chunk_tokens: Annotated[int, Field(ge=16)] = Field(
        default=4096, description="most tokens whose logits are in memory at once"
    )
    fused_head: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="compute log-probabilities in blocks of the vocabulary, without storing the logits; auto: for "
        "vocabularies of at least 4,096",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="store only the input of each layer and recompute the rest in the backward pass: about a "
        "third more computation for a fraction of the activation memory",
    )
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        default=3,
        description="consecutive restarts from the newest checkpoint without a new step, before the run fails",
    )
    collective_timeout_seconds: Annotated[float, Field(ge=1, le=7 * 86400)] = Field(
        default=1800.0,
        description="longest wait of a rank for the others in a collective operation; after it the learner is "
        "restarted",
    )

    @model_validator(mode="after")
    def _parameters_are_partitioned(self) -> LearnerConfig:
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError(
                f"offload='all' needs learner.zero_stage=3, not {self.zero_stage}; "
                "lower stages can only offload the optimizer (offload='optimizer')"
            )
        return self


class CheckpointConfig(Block):
    """Checkpoints in the run directory: the newest `keep` and the best. Due by steps or time, whichever is first."""

    every_steps: Annotated[int, Field(ge=1)] = Field(
        default=20, description="learner steps between checkpoints"
    )
    every_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        default=None,
        description="a checkpoint follows the first learner step that begins this long after the last one; unset: "
        "by steps only",
    )
    keep: Annotated[int, Field(ge=2)] = Field(default=3, description="number of newest checkpoints to keep")
    best_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="keep the checkpoint with the best held-out pass@k for this k, one of `evaluation.ks`; unset: "
        "the smallest",
    )
    asynchronous: bool = Field(
        default=True,
        description="True: the learner waits only for a copy in host memory; False: it waits until the checkpoint "
        "is written, without the copy",
    )
    mirror: PathText | None = Field(
        default=None,
        description="fsspec URL for a second copy of each checkpoint, such as s3://bucket/folder; its driver "
        "(s3fs, gcsfs) must be installed, and the learner processes need its credentials",
    )


class DeterminismConfig(Block):
    """Bit-identical runs of one configuration on one machine. See docs/explanation/reliability.md."""

    strict: bool = Field(
        default=False,
        description="the same groups and losses in every run, resumed or not; needs one generator per role and "
        "pipeline.max_staleness=0, and sends all groups of a step to the engine at once, regardless of "
        "generators.groups_in_flight",
    )
