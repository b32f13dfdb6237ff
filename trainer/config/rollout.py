"""Configuration of what samples: rollouts, the engines that make them, evaluations, and what people are shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Finite, Fraction, Positive, RayResource, Temperature
from trainer.roles import MOST_ROLLOUTS


class RolloutConfig(Block):
    """One step's worth of sampling. Temperatures are absolute; lengths are tokens."""

    prompts_per_step: Annotated[int, Field(ge=1)] = 48
    base_samples: Annotated[int, Field(ge=2, le=MOST_ROLLOUTS)] = Field(
        default=8, description="base rollouts a prompt (the group size G)"
    )
    adaptive_samples: Annotated[int, Field(ge=1, le=MOST_ROLLOUTS)] = Field(
        default=8, description="adaptive rollouts a prompt (G')"
    )
    base_temperature: Temperature = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=131072)] = 16
    refills: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="dynamic sampling (DAPO): other problems that a base group may be made of while its rewards are "
        "all equal; 0: such groups stay, without a gradient",
    )
    max_turns: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8, description="responses of one rollout; tasks with an environment only"
    )
    top_p: Finite = 1.0
    top_k: int = 0
    min_p: Finite = 0.0

    @model_validator(mode="after")
    def _no_truncated_sampling(self) -> RolloutConfig:
        for name, neutral in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0)):
            if getattr(self, name) != neutral:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed, only {neutral}: truncated sampling makes the "
                    "behaviour log-probabilities wrong for training"
                )
        return self


class GeneratorConfig(Block):
    """vLLM engines, one in each Ray actor."""

    base: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=1, description="engines sampling at the base temperature"
    )
    adaptive: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=1, description="engines sampling at the adaptive temperature"
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(default="float32", description="of the engines")
    cpus_per_generator: Positive = Field(default=0.5, description="Ray CPUs reserved by each generator")
    gpus_per_generator: Annotated[float, Field(ge=0)] = Field(
        default=0, description="Ray GPUs of each generator; 0 samples on the CPU"
    )
    ray_resource: RayResource = Field(
        default=None,
        description="custom Ray resource of which each generator takes one, so that it runs on nodes that have it; "
        "lower-case letters, digits and _",
    )
    tensor_parallel: Annotated[int, Field(ge=1)] = Field(default=1, description="GPUs that share one engine")
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="CPU engines: threads of each")
    kv_cache_gib: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="size of the key-value cache of an engine on CPUs, or on a GPU of which it has a fraction",
    )
    gpu_memory_fraction: Fraction = Field(
        default=0.85,
        description="GPU engines: share of device memory, which must be free when one starts; what the model leaves of "
        "it is the key-value cache of an engine with a GPU of its own",
    )
    max_sequences: Annotated[int, Field(ge=1)] = Field(default=512, description="sequences decoded at once")
    groups_in_flight: Annotated[int, Field(ge=1)] = Field(
        default=48,
        description="groups an engine works on at once; no more than as many again are verified, or wait for room in "
        "the queue, meanwhile",
    )
    caches_in_flight: Literal["recompute", "keep"] = Field(
        default="recompute",
        description="key-value caches of rollouts in flight when new weights arrive: recompute (their later tokens are "
        "sampled from the new policy exactly) or keep (costs nothing; they attend to what older versions computed)",
    )
    enforce_eager: bool = Field(default=True, description="False lets vLLM compile and capture CUDA graphs")
    elastic: bool = Field(
        default=False,
        description="begin with one generator of each role; others join when nodes have room for them, and one whose "
        "node is lost waits for another",
    )
    start_timeout_seconds: Annotated[float, Field(ge=5)] = Field(
        default=600.0, description="longest start of an engine"
    )
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        default=3,
        description="restarts of one generator in a row, within ten minutes of each other, until the run stops",
    )

    @property
    def shares_gpu(self) -> bool:
        """Whether other engines or a learner are on an engine's GPU."""
        return 0 < self.gpus_per_generator < 1

    @model_validator(mode="after")
    def _an_engine_has_its_gpus(self) -> GeneratorConfig:
        if self.gpus_per_generator and self.tensor_parallel not in (1, self.gpus_per_generator):
            raise ValueError(
                f"tensor_parallel={self.tensor_parallel} needs generators.gpus_per_generator={self.tensor_parallel}, "
                f"not {self.gpus_per_generator:g}: an engine runs on the GPUs of its actor"
            )
        return self


class EvaluationConfig(Block):
    """Held-out evaluation with the unbiased pass@k estimator."""

    problems: Annotated[int, Field(ge=1)] = 256
    samples: Annotated[int, Field(ge=1)] = 32
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 4, 16)
    temperature: Temperature = 1.0
    every_steps: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="learner steps between evaluations during training, by generators that have no group to make; 0: "
        "only at the start and the end",
    )

    @model_validator(mode="after")
    def _ks_within_samples(self) -> EvaluationConfig:
        if not self.ks or max(self.ks) > self.samples:
            raise ValueError(f"ks={list(self.ks)} must be non-empty and at most samples={self.samples}")
        return self


class RolloutSamplesConfig(Block):
    """A few rollouts of each step, kept as text for people: `scope rollouts` and the page show them."""

    per_step: Annotated[int, Field(ge=0, le=256)] = Field(
        default=4, description="rollouts of a step; 0: none"
    )
    most_tokens: Annotated[int, Field(ge=16, le=8192)] = Field(
        default=1024, description="of a prompt, its last, and of a response, its first"
    )
    kept: Annotated[int, Field(ge=1, le=10_000)] = Field(default=500, description="newest ones in Redis")
    file_mib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64, description="size of what the run directory keeps; the oldest are given up"
    )
