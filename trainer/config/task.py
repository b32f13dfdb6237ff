"""Configuration of tasks: the source of prompts, and the verifier of responses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from trainer.config.block import Block, Fraction, Positive
from trainer.config.paths import PathText

Option = str | int | float | bool | list[str | int | float | bool]
_REFERENCE = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"


class DatasetConfig(Block):
    """Problems of `task.name=dataset`: a preset, a Hugging Face data set, or a local file."""

    train: PathText | None = Field(
        default=None,
        description="preset (dapo-math-17k, gsm8k), local .jsonl, .json, .csv, .tsv or .parquet file, or hub id",
    )
    heldout: PathText | None = Field(
        default=None,
        description="the same for held-out problems (math-500, aime24, …); unset: `task.heldout` problems are "
        "held out of the training data, chosen by the seed",
    )
    split: str = Field(
        default="train", description="split with training problems; for a hub data set that is not a preset"
    )
    heldout_split: str = Field(
        default="test", description="split with held-out problems; for a hub data set that is not a preset"
    )
    prompt_field: str = Field(
        default="problem",
        description="column of the problem, text or a list of messages, dots between nested names; for data that is "
        "not a preset",
    )
    answer_field: str = Field(
        default="answer",
        description="column of the answer, dots between nested names; for data that is not a preset",
    )
    strip_before: str = Field(
        default="",
        description="text to remove from the start of each problem, such as an instruction; for data that is not a "
        "preset",
    )
    strip_after: str = Field(default="", description="text to remove from the end of each problem")
    keep_fields: tuple[str, ...] = Field(
        default=(),
        description="more columns for the verifier (`extra_info` of `compute_score`); of a mapping named "
        "extra_info, its entries",
    )
    source_field: str = Field(
        default="data_source",
        description="column for `data_source` of `compute_score`; without it, the name of the data",
    )
    bad_rows: Literal["left_out", "refuse"] = Field(
        default="left_out",
        description="rows that cannot be used, such as lines that are not JSON, or problems without an answer. "
        "left_out: counted, and the first told when a run starts; refuse: an error that names the first",
    )
    max_characters: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="longer problems, all messages together, are skipped"
    )
    instruction: str = Field(
        default="\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
        description="text after each problem in the prompt, in the last message of a conversation",
    )


class VerifierConfig(Block):
    """The verifier of `task.name=dataset`, and limits for every untrusted verifier."""

    kind: Literal["math", "function", "http"] = Field(
        default="math",
        description="math: the last \\boxed{} equals the answer; function: compute_score(data_source, solution_str, "
        "ground_truth, extra_info) as in verl; http: your own service",
    )
    function: Annotated[str, Field(pattern=_REFERENCE)] | None = Field(
        default=None, description="function: `module:function`"
    )
    url: Annotated[str, Field(pattern=r"^https?://[^/?#@]+([/?#]|$)")] | None = Field(
        default=None,
        description="http: address for POST {problem, response}, which answers {reward, verdict}; without a password",
    )
    authorization_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = Field(
        default=None,
        description="http: environment variable of driver and generators with the `Authorization` header, such as "
        "`Bearer …`",
    )
    on_failure: Literal["left_out", "zero", "end"] = Field(
        default="left_out",
        description="a response without a score, because the verifier raises, dies, takes too long or gives no finite "
        "number (http: after all attempts): left_out: counted, and in no statistic and no loss; zero: reward 0; end: "
        "ends the run. For every task, your own too; in a mixture, of each part",
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3, description="http: attempts per request before the response is without a score"
    )
    retry_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = Field(
        default=0.5,
        description="http: wait before the second attempt, doubled for each further one, at most 60",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="concurrent processes (http: requests) per generator"
    )
    timeout_seconds: Positive = Field(
        default=5.0,
        description="longest time per response; after it the response has no score, with http the attempt has failed",
    )
    load_seconds: Positive = Field(
        default=300.0,
        description="longest time in which a process imports the modules of the verifier, which is not part of "
        "`timeout_seconds`; after it the run ends",
    )
    memory_mib: Annotated[int, Field(ge=256)] = Field(
        default=2048,
        description="address space that a response may take in a process, beyond what the modules of the verifier "
        "take; one that needs more has no score",
    )


class GymConfig(Block):
    """Problems and verifier of `task.name=reasoning_gym`."""

    dataset: str = Field(default="basic_arithmetic", description="name of a reasoning-gym data set")
    size: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100_000, description="training problems, generated one at a time"
    )
    options: dict[str, Option] = Field(
        default={}, description="options of the data set, such as {max_terms: 3}"
    )
    instruction: str = Field(
        default="\n\nThink step by step, and put only the final answer between <answer> and </answer>.",
        description="text after each question in the prompt",
    )


class RewardConfig(Block):
    """Reward shaping. It does not decide which rollouts are positives: see `task.positive_from`."""

    format_weight: Fraction = Field(
        default=0.0, description="share of the reward that depends on the verdict's `format` component"
    )
    overlong_from: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="length in tokens above which a response loses reward, linearly up to rollout.max_new_tokens "
        "(soft overlong punishment, DAPO)",
    )
    overlong_penalty: Fraction = Field(default=1.0, description="reward lost at the maximum length")
    overlong_form: Literal["share", "additive"] = Field(
        default="share",
        description="share: a share of the reward is lost; additive: subtracted from every reward, so that long "
        "wrong responses have less than 0 (as in DAPO, with half its factor: rewards are 0 and 1 here, -1 and 1 "
        "there)",
    )
    length_penalty: Fraction = Field(
        default=0.0, description="reward subtracted per 1,000 tokens beyond `length_free`"
    )
    length_free: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="tokens without `length_penalty`"
    )

    @model_validator(mode="after")
    def _penalty_leaves_something_free(self) -> RewardConfig:
        if self.length_penalty and self.length_free is None:
            raise ValueError(
                f"task.reward.length_penalty={self.length_penalty:g} needs task.reward.length_free, the tokens "
                "without a penalty"
            )
        return self


class CurriculumConfig(Block):
    """The shares of the parts of a mixture."""

    kind: Literal["fixed", "pass_rate"] = Field(
        default="fixed",
        description="fixed: by weight; pass_rate: by weight times 4 p (1 - p), with the measured pass rate p of "
        "the part",
    )
    floor: Annotated[float, Field(ge=0.01, le=1)] = Field(
        default=0.1, description="smallest factor of a part's weight, so that its pass rate is still measured"
    )
    smoothing: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="weight of the newest step in the moving average of a pass rate"
    )


class SingleTaskConfig(Block):
    """One task."""

    name: str = Field(
        default="countdown",
        description="countdown, countdown_cot, dataset, reasoning_gym, number_guess, calculator, mixture, or "
        "`module:object` for your own task",
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=17, description="seed of the split into training and held-out problems, and of their order"
    )
    heldout: Annotated[int, Field(ge=16)] = Field(default=512, description="number of held-out problems")
    max_number: Annotated[int, Field(ge=4, le=40)] = Field(
        default=20, description="largest number; for countdown, countdown_cot, number_guess"
    )
    max_target: Annotated[int, Field(ge=4, le=999)] = Field(
        default=99, description="largest target; for countdown, countdown_cot"
    )
    easy_share: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = Field(
        default=0.0, description="share of easy training problems; for countdown_cot"
    )
    folder: PathText | None = Field(
        default=None, description="folder from which the modules of your own task or verifier are imported"
    )
    options: dict[str, Option] = Field(default={}, description="options of your own task")
    positive_from: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="reward of the verifier, before `task.reward` shapes it, from which on a response is a success: a "
        "positive of SCOPE, and correct in pass@k and in every count; in a mixture, of each part",
    )
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
    """The task: the source of prompts and the verifier of responses."""

    mixture: tuple[MixturePart, ...] = Field(
        default=(), description="the parts of `task.name=mixture`, each a task with a `weight`"
    )
    curriculum: CurriculumConfig = CurriculumConfig()
    reward: RewardConfig = RewardConfig()
    unusable_prompts: Literal["left_out", "refuse"] = Field(
        default="left_out",
        description="problems whose prompt is too long, or that the chat template refuses: left out and counted, or a "
        "reason to refuse the run",
    )

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
