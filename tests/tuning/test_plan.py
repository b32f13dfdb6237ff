"""What a search refuses before anything starts, and what its trials are."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.tuning.plan import Search, make_search
from services.tuning.space import settings_of, trial_name
from tests.support.repository import QUICKSTART
from trainer.errors import ScopeError

TARGET = "entropy_control.target"
RATE = "optimizer.learning_rate"


def search(tmp_path: Path, *space: str, **changes: object) -> Search:
    return make_search(QUICKSTART, space=space, out=tmp_path, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ([f"{TARGET}=0.1"], "is not a range"),
        ([f"{TARGET}=0.1:0.4:cubic"], "is not a range"),
        ([f"{TARGET}=nan:0.4"], "is not a range"),
        ([f"{TARGET}=0.4:0.1"], "0.4 must be below 0.1"),
        ([f"{RATE}=0:1e-3:log"], "begins above 0"),
        ([f"{TARGET}=0.1:9"], r"target=9.*must lie in \[0\.01, 5\.0\]"),
        (["entropy_control.targt=0.1:0.4"], "The nearest valid name is entropy_control.target"),
        (["task.name=1:2"], "must be the same in every trial"),
        (["steps=10:20"], "must be the same in every trial"),
        (["entropy_control.kind=1:2"], "entropy_control.kind"),
        (["rollout.base_samples=2.5:8"], "base_samples"),
        (["control_plane.enabled=0:1"], "control_plane.enabled"),
        ([f"{TARGET}=0.1:0.4", f"{TARGET}=0.2:0.4"], "2 times"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(tmp_path: Path, space: list[str], says: str) -> None:
    with pytest.raises(ScopeError, match=says) as raised:
        search(tmp_path, *space)
    assert str(raised.value).startswith("--search")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": "pass@0"}, "--metric 'pass@0'"),
        ({"metric": "reward"}, "--metric 'reward'"),
        ({"metric": "pass@32", "samples": 16}, "Add --samples 32"),
        ({"trials": 0}, "--trials 0"),
        ({"seeds": -1}, "--seeds -1"),
        ({"full": True, "parallel": 2}, "follow one another"),
        ({"evaluate_every": -1}, "--evaluate-every -1"),
        ({"settings": ["entropy_control.kind=none"]}, "holds no target"),
        ({"settings": [f"{TARGET}=auto"]}, "gives no range"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ScopeError, match=says):
        search(tmp_path, **changes)


def test_without_a_range_the_target_is_searched_from_half_to_twice_its_value(tmp_path: Path) -> None:
    (target,) = search(tmp_path).dimensions
    assert (target.field, target.low, target.high, target.whole) == (TARGET, 0.21, 0.84, False)


def test_a_trial_is_a_unit_for_each_seed_with_the_values_set(tmp_path: Path) -> None:
    plan = search(
        tmp_path, f"{TARGET}=0.1:0.4", "rollout.base_samples=2:8:log", seeds=2, metric="pass@32"
    ).trial({TARGET: 0.2, "rollout.base_samples": 4})
    assert [unit.name for unit in plan.units] == [
        "target-0.2-base_samples-4-s1",
        "target-0.2-base_samples-4-s2",
    ]
    assert [(u.config.entropy_control.target, u.config.rollout.base_samples) for u in plan.units] == [
        (0.2, 4)
    ] * 2
    assert (plan.evaluate_every, plan.samples_between) == (20, 32)


def test_values_are_rounded_within_their_range_and_can_be_pasted(tmp_path: Path) -> None:
    found = search(tmp_path, f"{TARGET}=0.100004:0.3", f"{RATE}=1e-5:1e-3:log", "rollout.base_samples=2:8")
    values = found.values({TARGET: 0.10000412, RATE: 1.23456e-5, "rollout.base_samples": 3})
    assert settings_of(values) == [f"{TARGET}=0.100004", f"{RATE}=1.235e-05", "rollout.base_samples=3"]
    assert trial_name(values) == "target-0.100004-learning_rate-1.235e-05-base_samples-3"


def test_a_full_run_evaluates_where_it_may_be_stopped(tmp_path: Path) -> None:
    found = search(tmp_path, full=True, settings=["control_plane.enabled=false", "ray.dashboard=false"])
    (unit,) = found.trial({TARGET: 0.3}).units
    assert unit.config.evaluation.every_steps == found.evaluate_every == 20
    assert unit.config.runs_dir == str(tmp_path / "trials" / "target-0.3" / "runs")
