"""Alarms of steps from which nothing is learned: when they are raised, when they are not, and what they say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from services.driver.alarm_news import AlarmNews
from services.records.alarms import AlarmKind, alarm, control_alarm, end_text
from services.records.learning_signal import (
    LEAST_GROUPS,
    REMEMBERED,
    STARVED_STEPS,
    STEPS,
    LearningSignal,
)
from tests.support.step_records import record
from trainer.config import RunConfig
from trainer.config.load import validate_config

CONFIG = validate_config({"entropy_control": {"kind": "paper"}})
"""of a law that does not measure its own successes"""
GROUPS = {"groups": 8, "base_groups": 4}
HEALTHY = {"uniform_groups": 2, "positives": 5, "truncated_share": 0.3, "next_temperature": 0.9, **GROUPS}
TRUNCATED = {"truncated_share": 0.97}
FAILED = {"uniform_groups": 4, "failed_groups": 4}
SOLVED = {"uniform_groups": 4, "solved_groups": 4}
MIXED = {"uniform_groups": 4, "failed_groups": 3, "solved_groups": 1}
WITHOUT_POSITIVES = {"positives": 0}
ONE_POSITIVE = {"auxiliary_positives": 40, "auxiliary_largest_share": 0.8}
STARVED = {"positives": 0, "next_temperature": 1.2}


def step(number: int, **changes: Any) -> dict[str, Any]:
    """The fields of a step record as the learner has them; 96 rollouts."""
    fields = msgspec.structs.asdict(record(number, staleness={0: 60, 1: 36}))
    return fields | HEALTHY | changes


def unscored(count: int, cause: str = "TimeoutError") -> dict[str, Any]:
    return {"unscored_rollouts": count, "unscored_example": cause if count else ""}


def raised(steps: Sequence[dict[str, Any]], config: RunConfig = CONFIG) -> list[set[AlarmKind]]:
    """The kinds of alarm after each step."""
    signal = LearningSignal(config, [])
    return [{made.kind for made in signal.observe(step(i, **one))} for i, one in enumerate(steps)]


def text(steps: Sequence[dict[str, Any]], kind: AlarmKind) -> str:
    """The alarm of this kind after the last step."""
    signal = LearningSignal(CONFIG, [])
    made = [signal.observe(step(i, **one)) for i, one in enumerate(steps)][-1]
    return next(one.text for one in made if one.kind == kind)


@pytest.mark.parametrize(
    ("kind", "change", "steps"),
    [
        ("all_truncated", TRUNCATED, STEPS),
        ("all_uniform", FAILED, STEPS),
        ("all_uniform", SOLVED, STEPS),
        ("all_uniform", MIXED, STEPS),
        ("no_positives", WITHOUT_POSITIVES, STEPS),
        ("starved", STARVED, STARVED_STEPS),
        ("one_positive", ONE_POSITIVE, STEPS),
        ("verifier_failing", unscored(6), 1),
    ],
)
def test_an_alarm_is_raised_after_its_steps_and_not_before_and_ends_with_one_sound_step(
    kind: AlarmKind, change: dict[str, Any], steps: int
) -> None:
    found = [kind in kinds for kinds in raised([{}, *[change] * (steps + 1), {}, change])]
    late = kind == "verifier_failing"
    assert found == [False] * steps + [True, True, False, late]


@pytest.mark.parametrize("kind", ["all_truncated", "all_uniform", "no_positives"])
def test_a_run_that_begins_badly_is_told_at_its_third_step(kind: AlarmKind) -> None:
    assert [kind in kinds for kinds in raised([TRUNCATED | FAILED | WITHOUT_POSITIVES] * 4)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"truncated_share": 0.89},
        {"uniform_groups": 3, "failed_groups": 3},
        {"positives": 1, "next_temperature": 1.5},
        unscored(4),
        {"base_groups": 0, "groups": 4, "uniform_groups": 0},
        {"groups": 0, "base_groups": 0, "uniform_groups": 0, "positives": 0, "truncated_share": 0.0},
    ],
    ids=["truncated", "uniform", "positive", "unscored", "without base groups", "without groups"],
)
def test_a_step_short_of_the_limits_is_no_alarm(change: dict[str, Any]) -> None:
    assert raised([change] * 20) == [set()] * 20


def test_steps_of_few_groups_need_more_of_them() -> None:
    one_prompt = {"groups": 2, "base_groups": 1, "uniform_groups": 1, "failed_groups": 1, "positives": 0}
    found = ["all_uniform" in kinds for kinds in raised([one_prompt] * (LEAST_GROUPS + 2))]
    assert found == [False] * (LEAST_GROUPS - 1) + [True] * 3


def test_one_mishap_of_the_verifier_in_a_small_batch_is_no_alarm() -> None:
    small = {"staleness": {0: 8}}
    found = raised([small | unscored(count) for count in (1, 0, 0, 1, 1, 1)])
    assert ["verifier_failing" in kinds for kinds in found] == [False] * 5 + [True]


def test_the_verifiers_alarm_names_the_commonest_cause() -> None:
    failing = {"unscored_rollouts": 48, "unscored_example": "HTTP 503"}
    said = text([failing], "verifier_failing")
    assert "no score to 48 of 96 rollouts, most often because of: HTTP 503: " in said
    assert "task.verifier" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (FAILED, "equal rewards of 0"),
        (FAILED, "if right answers have 0, the verifier does not read their form"),
        (SOLVED, "equal rewards of 1"),
        (SOLVED, "take harder ones"),
        (MIXED, "equal rewards, so"),
        (MIXED, "rollout.refills"),
        (FAILED | {"truncated_share": 0.8}, "equal rewards of 0"),
        (
            FAILED | {"truncated_share": 0.8},
            "most answers are cut off at the length limit; raise rollout.max_new",
        ),
        (FAILED | unscored(60), "most rollouts have no score"),
    ],
)
def test_uniform_groups_are_told_by_what_their_rewards_are(change: dict[str, Any], words: str) -> None:
    assert words in text([change] * STEPS, "all_uniform")


def test_the_limit_and_the_field_of_the_law_are_named() -> None:
    assert f"rollout.max_new_tokens, which is {CONFIG.rollout.max_new_tokens}," in text(
        [TRUNCATED] * 3, "all_truncated"
    )
    assert "entropy_control.paper.t_max" in text([STARVED] * 5, "starved")


@pytest.mark.parametrize(
    "control", [{"kind": "none"}, {"kind": "split_range", "samples": "negatives"}], ids=["none", "negatives"]
)
def test_without_a_use_for_positives_their_lack_is_no_alarm(control: dict[str, str]) -> None:
    config = validate_config({"entropy_control": control})
    assert raised([STARVED | {"groups": 4}] * 6, config) == [set()] * 6
    assert raised([STARVED] * 6, config) == [set()] * 6


def test_a_law_that_measures_its_own_successes_says_itself_when_it_is_starved() -> None:
    measuring = validate_config({"entropy_control": {"split_range": {"success_floor": 0.03}}})
    assert "starved" not in raised([STARVED] * 6, measuring)[-1]
    not_measuring = validate_config({"entropy_control": {"split_range": {"success_floor": 0}}})
    assert "starved" in raised([STARVED] * 6, not_measuring)[-1]
    said = control_alarm("starved", 0.03)
    assert said.kind == "starved"
    assert "fewer than 3.0% of the adaptive rollouts" in said.text


def test_starvation_needs_heat() -> None:
    assert raised([WITHOUT_POSITIVES] * 9)[-1] == {"no_positives"}


CHANGES = [
    {},
    TRUNCATED,
    FAILED,
    SOLVED,
    STARVED,
    FAILED | STARVED,
    unscored(9),
    {"groups": 2, "base_groups": 1},
]


@given(st.lists(st.sampled_from(CHANGES), max_size=30), st.integers(0, 30))
def test_a_learner_that_restarts_raises_the_alarms_of_one_that_went_on(
    changes: list[dict[str, Any]], restart: int
) -> None:
    """The new learner has the records that Redis keeps, as JSON."""
    steps = [step(i, **change) for i, change in enumerate(changes)]
    signal = LearningSignal(CONFIG, [])
    went_on = [signal.observe(one) for one in steps]
    kept = [
        msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(one, str_keys=True)))
        for one in steps[:restart]
    ]
    again = LearningSignal(CONFIG, kept[-REMEMBERED:])
    assert [again.observe(one) for one in steps[restart:]] == went_on[restart:]


def test_records_of_an_older_version_raise_nothing() -> None:
    old = [step(i, **FAILED) for i in range(9)]
    for one in old:
        for name in ("base_groups", "failed_groups", "solved_groups"):
            del one[name]
    signal = LearningSignal(CONFIG, old)
    assert signal.observe(step(9)) == []


# What is said

VALUES = {
    "kl": 0.3,
    "limit": 0.12,
    "steps": 3,
    "unscored": 9,
    "rollouts": 96,
    "cause": "TimeoutError",
    "which": " of 0",
    "advice": "take easier problems",
    "few": "none of the",
    "field": "split_range.success_floor",
    "generator": "base-generator-0",
    "version": "(1, 2)",
    "error": "timeout",
    "missing": 1,
    "role": "base",
    "report": "logger wandb failed",
    "share": 0.7,
    "positives": 40,
}
RECOVERS = {"weights_not_loaded", "generators_down", "logger"}


@pytest.mark.parametrize("kind", get_args(AlarmKind))
def test_every_alarm_says_what_to_do_with_fields_that_exist_and_is_told_once(kind: AlarmKind) -> None:
    made = alarm(kind, **VALUES)
    assert "{" not in made.text
    assert not made.text.endswith((".", ": "))
    # Those that a person need not act on say nothing more.
    assert kind in RECOVERS or ": " in made.text
    for name in re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", made.text):
        block: Any = CONFIG
        for part in name.split("."):
            assert part in type(block).model_fields, name
            block = getattr(block, part)
            if not isinstance(block, BaseModel):
                break
    news = AlarmNews()
    told = [
        line
        for number in range(10)
        for line in news.of(
            {"step": number, "entropy": 0.3, "entropy_target": None}
            | (
                {"alarms": [made.text], "alarm_kinds": [kind]}
                if number < 3
                else {"alarms": [], "alarm_kinds": []}
            )
        )
    ]
    assert told == [told[0], f"{end_text(kind)}, since step 4"]
    assert told[0].startswith("alarm: ")
