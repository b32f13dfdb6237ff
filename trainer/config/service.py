"""Configuration of the service: the replay queue, weight transfer, Redis, the control plane, loggers, Ray."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config.block import Block
from trainer.config.paths import PathText

Port = Annotated[int, Field(ge=1024, le=65535)]
CONTROL_PLANE_PORT, DASHBOARD_PORT = 8080, 8265
"""Where control plane and dashboard listen, unless the port is set or in use."""

LoggerName = Literal["tensorboard", "wandb"]
HostName = Annotated[
    str, Field(max_length=253, pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$")
]


class PipelineConfig(Block):
    """The replay queue: how far generators may run ahead, leases, and delivery."""

    max_staleness: Annotated[int, Field(ge=0, le=64)] = Field(
        default=1, description="largest staleness of a rollout, learner steps; 0: synchronous"
    )
    queue_capacity: Annotated[int, Field(ge=1)] = Field(
        default=4096, description="unread groups at which producers wait"
    )
    unacked_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        default=2 << 30, description="most bytes that are read and unacknowledged"
    )
    entry_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=16 << 20, description="largest size of an encoded group, bytes"
    )
    lease_seconds: Annotated[float, Field(ge=3, le=3600)] = Field(
        default=30.0, description="time without renewal after which another generator takes over a lease"
    )
    max_deliveries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3,
        description="deliveries of an entry to learners that fail on it, before it is dead-lettered; if this is "
        "above learner.max_restarts, the run fails first",
    )
    batch_timeout_seconds: Annotated[float, Field(ge=1)] = Field(
        default=600.0, description="longest wait for a complete batch"
    )
    ledger: bool = Field(
        default=False,
        description="generators also record in the run directory's ledger/ which groups they offered and Redis "
        "accepted; the groups that the learner applied are always recorded",
    )


class WeightsConfig(Block):
    """Weight transfer from the learner to the generators."""

    transport: Literal["object_store", "collective"] = Field(
        default="object_store",
        description="object_store: Ray's object store, shared memory on one machine; collective: a broadcast to all "
        "generators, by NCCL between GPUs (each learner rank and engine needs whole GPUs), else by gloo",
    )
    timeout_seconds: Annotated[float, Field(ge=1)] = Field(
        default=60.0,
        description="longest load of a version by a generator; after it the generator is replaced",
    )
    bucket_mib: Annotated[int, Field(ge=1)] = Field(
        default=1024,
        description="size of a bucket: of the parameters that ZeRO-3 gathers at a time to send or save them, and "
        "of each part of a broadcast",
    )


class RedisConfig(Block):
    """The Redis server. Without `url` the run starts and owns an embedded one."""

    url: str | None = Field(
        default=None, description="redis:// or rediss://, without a password (set SCOPE_REDIS_PASSWORD)"
    )
    server_binary: PathText | None = Field(
        default=None, description="program of the embedded server; unset: the packaged one, else one on PATH"
    )
    appendfsync: Literal["everysec", "always"] = Field(
        default="everysec",
        description="when the embedded server syncs its file: every second (a power failure may lose the last second "
        "or two), or always, before each answer",
    )
    connect_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = Field(
        default=5.0, description="longest wait for a connection"
    )

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError(f"url={url!r} must begin with redis:// or rediss://")
        if "@" in url and ":" in url.split("//", 1)[1].split("@", 1)[0]:
            raise ValueError(
                "url must not contain a password: set the environment variable SCOPE_REDIS_PASSWORD"
            )
        return url


class ControlPlaneConfig(Block):
    """The control plane: FastAPI on Ray Serve."""

    enabled: bool = Field(default=True, description="run the control plane with the run")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port | None = Field(
        default=None, description="port to listen on; unset: 8080, or the next free one when that is taken"
    )
    reads_per_minute: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=3000, description="read requests per token; a burst may use a sixth of them"
    )
    writes_per_minute: Annotated[int, Field(ge=1, le=10**9)] = Field(
        default=120,
        description="change requests per token; a burst may use a sixth of them",
    )
    allowed_hosts: tuple[HostName, ...] = Field(
        default=(),
        description="names in a request's Host header that are accepted beside `host`, loopback names and the address "
        "of the connection, for example of a proxy in front",
    )
    connections: Annotated[int, Field(ge=16, le=10_000)] = Field(
        default=512,
        description="open connections per replica; beyond them the one that waits longest is closed",
    )
    connections_per_address: Annotated[int, Field(ge=8, le=10_000)] = Field(
        default=256, description="the same for one address, or one IPv6 network of 64 bits"
    )
    header_timeout_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        default=10.0, description="longest time in which a request's header arrives, from the connection on"
    )
    body_timeout_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        default=10.0, description="longest time in which a request's body arrives"
    )
    idle_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=15, description="longest time that a connection stays open between two requests"
    )


class WandbConfig(Block):
    """Weights & Biases, if `loggers` names it. Credentials come from `wandb login`."""

    project: str = Field(default="scope-rl", description="project of the run")
    entity: str | None = Field(default=None, description="team or user; unset: W&B's default")
    mode: Literal["online", "offline"] = Field(
        default="online", description="offline: write to the run directory's wandb/, for `wandb sync`"
    )


class RayConfig(Block):
    """Ray. Without `address` the run starts a local cluster, which ends with it."""

    address: str | None = Field(
        default=None, description="address of an existing cluster; unset: a local cluster"
    )
    dashboard: bool = Field(default=True, description="start Ray's dashboard with a local cluster")
    dashboard_port: Port | None = Field(
        default=None,
        description="port of the dashboard of a local cluster; unset: 8265, or the next free one when that is taken",
    )
    object_store_mib: Annotated[int, Field(ge=80)] = Field(
        default=256, description="size of a local cluster's object store, MiB"
    )
