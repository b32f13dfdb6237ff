"""The ranges of the configuration are those of the engine: what it refuses after its start is refused before."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from vllm import SamplingParams, envs
from vllm.config import CacheConfig, SchedulerConfig
from vllm.exceptions import VLLMValidationError

from services.checks.engine import check_engine
from services.evaluation.plan import Sampling
from trainer.config.engine_limits import COLDEST, HOTTEST, MOST_RESPONSES, MOST_SEEDS, MOST_SEQUENCES
from trainer.config.load import default_config
from trainer.errors import ScopeError
from trainer.roles import MOST_ROLLOUTS

TEMPERATURES = (
    "rollout.base_temperature",
    "evaluation.temperature",
    "entropy_control.paper.t_max",
    "entropy_control.aepo_v1.t_hot",
    "entropy_control.split_range.t_max",
    "regularizer.dcpo.t_hot",
)


def sampling(**changes: object) -> Sampling:
    settings = {"samples": 1, "ks": [1], "temperature": 1.0, "top_p": 1.0, "max_problems": None, "seed": 0}
    return Sampling(**(settings | changes))  # pyright: ignore[reportArgumentType]


def test_the_hottest_temperature_is_the_engines() -> None:
    assert SamplingParams(temperature=HOTTEST).temperature == HOTTEST
    with pytest.raises(VLLMValidationError, match="temperature"):
        SamplingParams(temperature=math.nextafter(HOTTEST, 10))


def test_the_coldest_temperature_is_sampled_as_it_is() -> None:
    assert SamplingParams(temperature=COLDEST).temperature == COLDEST


@pytest.mark.parametrize("field", TEMPERATURES)
@pytest.mark.parametrize("value", [10.0, 2.5, math.nextafter(HOTTEST, 10), 0.0, 0.01, -1.0])
def test_no_temperature_of_the_configuration_goes_beyond(field: str, value: float) -> None:
    with pytest.raises(ScopeError, match=rf"{field} = .*at least 0.05 and at most 2"):
        default_config([f"{field}={value!r}"])


@pytest.mark.parametrize("field", TEMPERATURES)
def test_every_temperature_reaches_the_limit(field: str) -> None:
    default_config([f"{field}={HOTTEST}"])


@pytest.mark.parametrize("value", [2.0001, 10.0, -0.1, 0.01, math.nan, math.inf])
def test_an_evaluation_has_the_same_temperatures(value: float) -> None:
    sampling(temperature=HOTTEST).check()
    sampling(temperature=0.0).check()
    with pytest.raises(ScopeError, match=r"--temperature=.*0 \(greedy\), or from 0.05 to 2"):
        sampling(temperature=value).check()


@pytest.mark.parametrize("value", [0.0, -0.5, 1.0001, math.nan])
def test_an_evaluation_has_the_engines_nucleus(value: float) -> None:
    with pytest.raises(ScopeError, match="--top-p="):
        sampling(top_p=value).check()
    with pytest.raises(VLLMValidationError, match="top_p"):
        SamplingParams(top_p=value)


def test_temperatures_of_negatives_are_held_too() -> None:
    """They are sampled at the inverse of the law's temperature."""
    for name in ("paper.t_min", "aepo_v1.t_cold", "split_range.t_min"):
        kind = name.partition(".")[0]
        settings = [f"entropy_control.kind={kind}", "entropy_control.samples=negatives"]
        default_config([*settings, f"entropy_control.{name}=0.5"])
        with pytest.raises(ScopeError, match=r"must be at least 0\.5 with samples='negatives'"):
            default_config([*settings, f"entropy_control.{name}=0.49"])


@pytest.mark.parametrize(
    ("low", "high"), [("paper.t_min", "paper.t_max"), ("aepo_v1.t_cold", "aepo_v1.t_hot")]
)
def test_the_temperatures_of_a_law_are_in_order(low: str, high: str) -> None:
    with pytest.raises(ScopeError, match="must not exceed"):
        default_config([f"entropy_control.{low}=1.5", f"entropy_control.{high}=0.7"])


def test_the_responses_of_a_request_are_the_engines() -> None:
    assert envs.VLLM_MAX_N_SEQUENCES == MOST_RESPONSES
    assert MOST_ROLLOUTS <= MOST_RESPONSES
    SamplingParams(n=MOST_RESPONSES)
    default_config([f"evaluation.samples={MOST_RESPONSES}"])
    sampling(samples=MOST_RESPONSES).check()
    with pytest.raises(ScopeError, match=r"evaluation\.samples"):
        default_config([f"evaluation.samples={MOST_RESPONSES + 1}"])
    with pytest.raises(ScopeError, match="--n="):
        sampling(samples=MOST_RESPONSES + 1).check()


def test_sequences_at_once_fit_into_a_forward_pass() -> None:
    assert MOST_SEQUENCES == SchedulerConfig.DEFAULT_MAX_NUM_BATCHED_TOKENS
    default_config([f"generators.max_sequences={MOST_SEQUENCES}"])
    with pytest.raises(ScopeError, match=r"generators\.max_sequences"):
        default_config([f"generators.max_sequences={MOST_SEQUENCES + 1}"])


@pytest.mark.parametrize("share", [0.0, 1.01])
def test_the_share_of_memory_is_the_engines(share: float) -> None:
    with pytest.raises(ValueError, match="gpu_memory_utilization"):
        CacheConfig(gpu_memory_utilization=share)
    with pytest.raises(ScopeError, match=r"generators\.gpu_memory_fraction"):
        default_config([f"generators.gpu_memory_fraction={share}"])


@pytest.mark.parametrize("field", ["seed", "warm_start.seed"])
def test_seeds_leave_room_for_those_of_many_engines(field: str) -> None:
    largest = MOST_SEEDS - 1 + 7919 * 4097
    np.random.RandomState(largest)
    default_config([f"{field}={MOST_SEEDS - 1}"])
    with pytest.raises(ScopeError, match=f"{field} = "):
        default_config([f"{field}={MOST_SEEDS}"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.max_length=64", "rollout.max_new_tokens=64"], "leaves no room for a prompt"),
        (
            ["model.max_length=2048", "rollout.max_new_tokens=8"],
            "must be at most 128, the model's max_position",
        ),
        (
            ["generators.tensor_parallel=3", "model.max_length=64"],
            "must divide the model's 4 attention heads",
        ),
    ],
)
def test_lengths_and_heads_are_those_of_the_model(tmp_path: Path, overrides: list[str], said: str) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 128, "num_attention_heads": 4}')
    config = default_config([f"model.path={tmp_path}", *overrides])
    with pytest.raises(ScopeError, match=said):
        check_engine(config, tmp_path)
    assert check_engine(default_config([f"model.path={tmp_path}"]), tmp_path) == []
