"""Configuration of sampling: rollouts, generators, evaluation, and stored sample rollouts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.block import Block, Finite, Positive, RayResource
from trainer.config.engine_limits import MOST_RESPONSES, MOST_SEQUENCES, Temperature
from trainer.roles import MOST_ROLLOUTS


class RolloutConfig(Block):
    """The rollouts of one step. Temperatures are absolute; lengths are tokens."""

    prompts_per_step: Annotated[int, Field(ge=1)] = Field(default=48, description="prompts per learner step")
    base_samples: Annotated[int, Field(ge=2, le=MOST_ROLLOUTS)] = Field(
        default=8, description="base rollouts per prompt (group size G)"
    )
    adaptive_samples: Annotated[int, Field(ge=1, le=MOST_ROLLOUTS)] = Field(
        default=8, description="adaptive rollouts per prompt (G')"
    )
    base_temperature: Temperature = Field(default=1.0, description="sampling temperature of base rollouts")
    max_new_tokens: Annotated[int, Field(ge=1, le=131072)] = Field(
        default=16, description="longest response, tokens"
    )
    refills: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0,
        description="dynamic sampling (DAPO): how many times a base group with equal rewards is replaced by one "
        "of another problem; 0: such groups are kept and give no gradient. Entropy is measured on the groups that "
        "stay, so the target holds for prompts that are neither always nor never solved",
    )
    max_turns: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8, description="most responses per rollout; only for tasks with an environment"
    )
    top_p: Finite = Field(default=1.0, description="only 1: rollouts are sampled from the whole distribution")
    top_k: int = Field(default=0, description="only 0: rollouts are sampled from the whole distribution")
    min_p: Finite = Field(default=0.0, description="only 0: rollouts are sampled from the whole distribution")

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
    """The generators: Ray actors with one vLLM engine each."""

    base: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=1, description="generators that sample at the base temperature"
    )
    adaptive: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=1, description="generators that sample at the adaptive temperature"
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32", description="precision of the engines"
    )
    cpus_per_generator: Positive = Field(default=0.5, description="Ray CPUs reserved per generator")
    gpus_per_generator: Annotated[float, Field(ge=0)] = Field(
        default=0, description="Ray GPUs per generator; 0: sample on CPUs"
    )
    ray_resource: RayResource = Field(
        default=None,
        description="custom Ray resource of which each generator takes one unit, to place generators on nodes "
        "that have it; lower-case letters, digits and _",
    )
    tensor_parallel: Annotated[int, Field(ge=1)] = Field(default=1, description="GPUs that share one engine")
    threads: Annotated[int, Field(ge=1)] = Field(default=1, description="threads per engine on CPUs")
    kv_cache_gib: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="size of the key-value cache of an engine on CPUs, or on a fraction of a GPU",
    )
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.85,
        description="share of GPU memory for an engine, which must be free when it starts; on a whole GPU the "
        "key-value cache gets what the model leaves of it",
    )
    max_sequences: Annotated[int, Field(ge=1, le=MOST_SEQUENCES)] = Field(
        default=512, description="most sequences that an engine decodes at once"
    )
    groups_in_flight: Annotated[int, Field(ge=1)] = Field(
        default=48,
        description="groups that an engine samples at once; at most as many more are being verified or waiting "
        "for the queue",
    )
    caches_in_flight: Literal["recompute", "keep"] = Field(
        default="recompute",
        description="key-value caches of rollouts in flight when new weights arrive: recompute (later tokens come "
        "exactly from the new policy) or keep (no cost; later tokens attend to keys and values of older versions)",
    )
    enforce_eager: bool = Field(
        default=True, description="False: vLLM compiles the model and captures CUDA graphs"
    )
    elastic: bool = Field(
        default=False,
        description="start with one generator per role; others start when the cluster has resources, and one "
        "whose node is lost waits for another node",
    )
    start_timeout_seconds: Annotated[float, Field(ge=5)] = Field(
        default=600.0, description="longest start-up of an engine"
    )
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        default=3,
        description="consecutive restarts of one generator, within ten minutes of each other, before the run fails",
    )

    @property
    def shares_gpu(self) -> bool:
        """Whether an engine shares its GPU with other engines or the learner."""
        return 0 < self.gpus_per_generator < 1

    @model_validator(mode="after")
    def _an_engine_has_its_gpus(self) -> GeneratorConfig:
        if self.gpus_per_generator and self.tensor_parallel not in (1, self.gpus_per_generator):
            raise ValueError(
                f"tensor_parallel={self.tensor_parallel} needs generators.gpus_per_generator={self.tensor_parallel}, "
                f"not {self.gpus_per_generator:g}: an engine uses the GPUs of its actor"
            )
        return self


class EvaluationConfig(Block):
    """Evaluation on held-out problems with the unbiased pass@k estimator."""

    problems: Annotated[int, Field(ge=1)] = Field(default=256, description="number of held-out problems")
    samples: Annotated[int, Field(ge=1, le=MOST_RESPONSES)] = Field(
        default=32, description="responses per problem"
    )
    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 4, 16), description="the k of pass@k")
    temperature: Temperature = Field(default=1.0, description="sampling temperature")
    every_steps: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="learner steps between evaluations during training, done by generators without a lease; 0: "
        "evaluate only at the start and the end",
    )

    @model_validator(mode="after")
    def _ks_within_samples(self) -> EvaluationConfig:
        if not self.ks or max(self.ks) > self.samples:
            raise ValueError(f"ks={list(self.ks)} must be non-empty and at most samples={self.samples}")
        return self


class RolloutSamplesConfig(Block):
    """Rollouts of each step that are stored as text, for `scope rollouts` and the web page."""

    per_step: Annotated[int, Field(ge=0, le=256)] = Field(
        default=4, description="rollouts stored per step; 0: none"
    )
    most_tokens: Annotated[int, Field(ge=16, le=8192)] = Field(
        default=1024,
        description="most tokens stored: the last ones of a prompt, the first ones of a response",
    )
    kept: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=500, description="number of newest rollouts in Redis"
    )
    file_mib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64,
        description="size limit of the files in the run directory; the oldest rollouts are deleted",
    )
