"""What surrounds the learner: the replay queue, weight transfer, the control plane, loggers, Ray."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config.block import Block as Block
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

LoggerName = Literal["tensorboard", "wandb"]


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
