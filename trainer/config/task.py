"""Configuration of tasks: where prompts come from, and what scores the responses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trainer.config.block import Block, Fraction, Positive

Option = str | int | float | bool | list[str | int | float | bool]
_REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


class DatasetConfig(Block):
    """Problems of `task.name=dataset`: Hugging Face data sets, by name, hub id or local file."""

    train: str | None = Field(
        default=None,
        description="a name of `trainer/tasks/datasets/presets.py` (dapo-math-17k, gsm8k), a local .jsonl, .json "
        "or .parquet file, or a hub id",
    )
    heldout: str | None = Field(
        default=None,
        description="the same, for held-out problems (math-500, aime24, …); unset: `task.heldout` training "
        "problems, chosen by the seed, are kept out",
    )
    split: str = Field(default="train", description="of a hub data set that is no preset")
    heldout_split: str = Field(default="test", description="of a hub data set that is no preset")
    prompt_field: str = Field(
        default="problem", description="column of data that is no preset; dots for parts"
    )
    answer_field: str = Field(
        default="answer", description="column of data that is no preset; dots for parts"
    )
    strip_before: str = Field(
        default="",
        description="text before each problem that is taken off, such as an instruction; of data that is no preset",
    )
    strip_after: str = Field(default="", description="the same, behind each problem")
    keep_fields: tuple[str, ...] = Field(
        default=(),
        description="further columns that the verifier gets (`extra_info` of `compute_score`); of a mapping called "
        "extra_info the entries",
    )
    source_field: str = Field(
        default="data_source",
        description="column that `compute_score` gets as `data_source`; the name of the data where there is none",
    )
    max_characters: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="longer problems are left out"
    )
    instruction: str = Field(
        default="\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
        description="what follows each problem in the prompt",
    )


class VerifierConfig(Block):
    """What scores responses to `task.name=dataset`; and, for every verifier that is not trusted, its bounds."""

    kind: Literal["math", "function", "http"] = Field(
        default="math",
        description="math: the last \\boxed{} by math-verify; function: verl's compute_score(data_source, "
        "solution_str, ground_truth, extra_info); http: a service of your own",
    )
    function: Annotated[str, Field(pattern=_REFERENCE)] | None = Field(
        default=None, description="`module:function` for kind function"
    )
    url: Annotated[str, Field(pattern=r"^https?://[^/?#@]+([/?#]|$)")] | None = Field(
        default=None,
        description="for kind http: POST {problem, response}, answers {reward, verdict}; without a password",
    )
    authorization_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = Field(
        default=None,
        description="for kind http: environment variable of driver and generators that holds the `Authorization` "
        "header, such as `Bearer …`",
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3, description="for kind http: tries of one request, before its fault ends the run"
    )
    retry_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = Field(
        default=0.5,
        description="for kind http: wait before the second try, twice as long before each further one, up to 60",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="processes (or requests) at once, for each generator"
    )
    timeout_seconds: Positive = Field(
        default=5.0,
        description="for one response; longer scores 0, and with kind http is a try that failed",
    )
    memory_mib: Annotated[int, Field(ge=256)] = Field(
        default=2048, description="address space of each process; more scores 0"
    )


class GymConfig(Block):
    """Problems and verifier of `task.name=reasoning_gym`."""

    dataset: str = Field(default="basic_arithmetic", description="a data set of reasoning-gym, by its name")
    size: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="training problems; made one at a time"
    )
    options: dict[str, Option] = Field(default={}, description="of that data set, such as {max_terms: 3}")
    instruction: str = Field(
        default="\n\nThink step by step, and put only the final answer between <answer> and </answer>.",
        description="what follows each question in the prompt",
    )


class RewardConfig(Block):
    """What becomes of a verdict before it is a reward. Only fully rewarded rollouts are positives of SCOPE."""

    format_weight: Fraction = Field(
        default=0.0, description="share of the reward that the verdict's `format` component gives"
    )
    overlong_from: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="tokens from which a longer response loses reward, linearly up to rollout.max_new_tokens "
        "(soft overlong punishment, DAPO)",
    )
    overlong_penalty: Fraction = Field(default=1.0, description="what is lost at the longest")
    overlong_form: Literal["share", "additive"] = Field(
        default="share",
        description="share: of the reward; additive: subtracted from any reward, so that long wrong responses have "
        "less than 0 (DAPO; half its factor, since rewards are 0 and 1 here and -1 and 1 there)",
    )
    length_penalty: Fraction = Field(
        default=0.0, description="subtracted for each 1,000 tokens beyond `length_free`"
    )
    length_free: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="tokens that `length_penalty` does not count"
    )

    @model_validator(mode="after")
    def _penalty_leaves_something_free(self) -> RewardConfig:
        if self.length_penalty and self.length_free is None:
            raise ValueError(
                f"task.reward.length_penalty={self.length_penalty:g} needs task.reward.length_free: with a penalty "
                "from the first token on no response would have its full reward, and SCOPE no positives"
            )
        return self


class CurriculumConfig(Block):
    """How often the parts of a mixture come."""

    kind: Literal["fixed", "pass_rate"] = Field(
        default="fixed",
        description="fixed: by weight; pass_rate: by weight times 4 p (1 - p), p the part's measured pass rate",
    )
    floor: Annotated[float, Field(ge=0.01, le=1)] = Field(
        default=0.1, description="least factor of a part's weight, so that its pass rate stays measured"
    )
    smoothing: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="weight of the newest step in a part's pass rate"
    )


class SingleTaskConfig(Block):
    """One task."""

    name: str = Field(
        default="countdown",
        description="countdown, countdown_cot, dataset, reasoning_gym, number_guess, calculator, mixture, or "
        "`module:object` of your own",
    )
    seed: Annotated[int, Field(ge=0)] = 17
    heldout: Annotated[int, Field(ge=16)] = Field(default=512, description="problems kept out of training")
    max_number: Annotated[int, Field(ge=4, le=40)] = Field(
        default=20, description="numbers are 1..max_number; `countdown`, `countdown_cot`, `number_guess`"
    )
    max_target: Annotated[int, Field(ge=4, le=999)] = Field(
        default=99, description="`countdown`, `countdown_cot`"
    )
    easy_share: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = Field(
        default=0.0, description="share of easy problems in training; `countdown_cot` only"
    )
    folder: str | None = Field(
        default=None, description="folder that the modules of your own task or verifier are imported from"
    )
    options: dict[str, Option] = Field(default={}, description="whatever a task of your own reads from it")
    dataset: DatasetConfig = DatasetConfig()
    verifier: VerifierConfig = VerifierConfig()
    reasoning_gym: GymConfig = GymConfig()

    @model_validator(mode="after")
    def _complete(self) -> SingleTaskConfig:
        if self.name == "dataset":
            if self.dataset.train is None:
                raise ValueError(
                    "task.name='dataset' needs task.dataset.train: a preset, a .jsonl or .parquet file, or a hub id"
                )
            needed = {"function": self.verifier.function, "http": self.verifier.url}
            kind = self.verifier.kind
            if kind in needed and needed[kind] is None:
                field = "function" if kind == "function" else "url"
                raise ValueError(f"task.verifier.kind={kind!r} needs task.verifier.{field}")
        return self


class MixturePart(SingleTaskConfig):
    """One task of a mixture."""

    weight: Positive = Field(default=1.0, description="share of the prompts, relative to the other parts")


class TaskConfig(SingleTaskConfig):
    """Where prompts come from and how responses are scored."""

    mixture: tuple[MixturePart, ...] = Field(
        default=(), description="the parts of `task.name=mixture`, each a task with a `weight`"
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    reward: RewardConfig = RewardConfig()

    @field_validator("mixture")
    @classmethod
    def _flat(cls, parts: tuple[MixturePart, ...]) -> tuple[MixturePart, ...]:
        if any(part.name == "mixture" for part in parts):
            raise ValueError("a part of task.mixture cannot be a mixture itself; list its tasks here instead")
        return parts

    @model_validator(mode="after")
    def _mixture_has_parts(self) -> TaskConfig:
        if (self.name == "mixture") != bool(self.mixture):
            raise ValueError(
                f"task.name={self.name!r} with {len(self.mixture)} part(s) in task.mixture: "
                "a mixture needs task.name=mixture and at least one part"
            )
        if self.curriculum.kind != "fixed" and not self.mixture:
            raise ValueError(f"task.curriculum.kind={self.curriculum.kind!r} needs task.name=mixture")
        return self
