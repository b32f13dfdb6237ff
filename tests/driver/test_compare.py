"""`scope compare`: statistics against cases computed by hand, and a real comparison of tiny runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import msgspec
import numpy as np
import pytest

from services.compare import statistics
from services.compare.plan import make_plan, parse_controls
from services.compare.plots import plot_all
from services.compare.report import Table, markdown, terminal
from services.compare.table import comparison
from tests.support.compared import evaluation, step_point, unit_result
from tests.support.repository import QUICKSTART


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpo,scope", [("grpo", "grpo", ()), ("scope", "scope", ())]),
        (
            "scope:entropy_control.target=0.3,steps=5,grpo",
            [
                ("scope-target-0.3-steps-5", "scope", ("entropy_control.target=0.3", "steps=5")),
                ("grpo", "grpo", ()),
            ],
        ),
        ("low@scope:entropy_control.target=0.2", [("low", "scope", ("entropy_control.target=0.2",))]),
        ("plain@grpo, scope_paper ", [("plain", "grpo", ()), ("scope_paper", "scope_paper", ())]),
    ],
)
def test_controls_are_read_with_their_labels_and_overrides(text: str, expected: list[tuple]) -> None:
    assert [(c.label, c.preset, c.settings) for c in parse_controls([text])] == expected


def test_a_plan_has_every_control_with_every_seed_and_the_later_override_wins(tmp_path: Path) -> None:
    plan = make_plan(
        QUICKSTART,
        ["grpo", "cold@scope:entropy_control.target=0.2"],
        seeds=2,
        first_seed=7,
        settings=["entropy_control.target=0.3", "steps=9"],
        out=tmp_path / "out",
        in_process=True,
    )
    assert [unit.name for unit in plan.units] == ["grpo-s7", "cold-s7", "grpo-s8", "cold-s8"]
    plain, cold = plan.units[:2]
    assert (plain.config.seed, plain.config.steps, plain.config.entropy_control.kind) == (7, 9, "none")
    assert (plain.config.entropy_control.target, cold.config.entropy_control.target) == (0.3, 0.2)
    assert (plain.config.evaluation.samples, plain.config.evaluation.ks) == (64, (1, 2, 4, 8, 16, 32, 64))
    assert not (tmp_path / "out").exists()


def test_the_number_of_samples_is_the_argument_then_the_configuration_then_64() -> None:
    def samples(*settings: str, argument: int | None = None) -> int:
        plan = make_plan(QUICKSTART, ["grpo"], seeds=1, settings=settings, in_process=True, samples=argument)
        return plan.units[0].config.evaluation.samples

    assert samples() == 64
    assert samples("evaluation.samples=20") == 20
    assert samples("evaluation.samples=20", argument=24) == 24


def test_the_window_is_the_last_60_of_160_steps() -> None:
    assert [statistics.window_steps(n) for n in (160, 8, 1)] == [60, 3, 1]


def test_the_moving_average_is_of_five_neighbours_or_of_all_there_are() -> None:
    np.testing.assert_allclose(statistics.moving_average(np.arange(7.0)), [2, 3, 4])
    np.testing.assert_allclose(statistics.moving_average(np.array([1.0, 2.0])), [1.5])


def test_holding_is_judged_over_the_window_alone() -> None:
    # 16 steps: a window of 6, whose errors are 0.1 -0.1 0.2 0 0.3 0.1
    errors = [0.1, -0.1, 0.2, 0.0, 0.3, 0.1]
    before = [step_point(i, entropy=0.9, saturated=True) for i in range(10)]
    window = [step_point(10 + i, entropy=0.4 + e, saturated=i < 2) for i, e in enumerate(errors)]
    held = statistics.holding(before + window)
    assert (held.start, held.entropy_target) == (0.9, pytest.approx(0.4))
    assert held.mean_error == pytest.approx(0.1)
    assert held.mean == pytest.approx(0.5)
    # two averages of five: (0.1 - 0.1 + 0.2 + 0 + 0.3) / 5 = 0.1 and (-0.1 + 0.2 + 0 + 0.3 + 0.1) / 5 = 0.1
    assert held.rms_error == pytest.approx(0.1)
    assert held.saturated_share == pytest.approx(2 / 6)
    assert (held.low, held.high) == (pytest.approx(0.3), pytest.approx(0.7))


def test_the_error_follows_an_entropy_target_that_moves() -> None:
    moving = [step_point(i, entropy=0.5, entropy_target=0.5 - 0.1 * (i % 2)) for i in range(16)]
    held = statistics.holding(moving)
    assert held.mean_error == pytest.approx(0.05)
    assert held.entropy_target == pytest.approx(0.45)


def test_without_an_entropy_target_there_is_no_error_and_unmeasured_steps_are_counted() -> None:
    steps = [step_point(i, entropy_target=None, entropy=None if i == 15 else 0.2) for i in range(16)]
    held = statistics.holding(steps)
    assert (held.entropy_target, held.mean_error, held.rms_error, held.saturated_share) == (
        None,
        None,
        None,
        None,
    )
    assert (held.mean, held.unmeasured_steps) == (pytest.approx(0.2), 1)
    with pytest.raises(ValueError, match="none of the last"):
        statistics.holding([step_point(0, entropy=None)])


def test_the_bootstrap_resamples_seeds_and_problems() -> None:
    # only seeds differ: a resample of two seeds is (0, 0), (0, 1), (1, 0) or (1, 1)
    by_seed = statistics.crossed_bootstrap(np.array([[0.0] * 50, [1.0] * 50]))
    assert (by_seed.mean, by_seed.low, by_seed.high) == (0.5, 0.0, 1.0)
    # only problems differ: the interval of a mean of 400 coin flips, whatever the number of seeds
    flips = np.tile(np.arange(400) % 2, (5, 1)).astype(float)
    by_problem = statistics.crossed_bootstrap(flips)
    assert by_problem.mean == 0.5
    assert by_problem.high - by_problem.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.08)
    # nothing differs
    assert statistics.crossed_bootstrap(np.full((3, 7), 0.25)).low == pytest.approx(0.25)


def pair(**changes: Any) -> dict[str, list]:
    """A baseline and a control that is right twice as often, two seeds each; the control's steps cost twice as much."""
    steps = {"plain": [step_point(i, entropy_target=None) for i in range(8)]}
    steps["ours"] = [step_point(i, seconds=4.0, generated_tokens=200, **changes) for i in range(8)]
    right = {"plain": [1, 0, 2], "ours": [2, 0, 4]}
    return {
        label: [
            unit_result(
                label,
                seed,
                steps[label],
                [
                    evaluation(0, [1, 0, 1]),
                    evaluation(4, [0, 0, 2], samples=2),
                    evaluation(8, right[label]),
                ],
            )
            for seed in (1, 2)
        ]
        for label in ("plain", "ours")
    }


def test_pass_at_k_is_compared_by_problem_with_the_start_and_the_baseline() -> None:
    found = comparison(pair())
    assert (found["baseline"], found["ks"], found["problems"], found["samples"]) == ("plain", [1, 2, 4], 3, 4)
    ours = found["controls"]["ours"]["pass"]["1"]
    assert ours["start"]["mean"] == pytest.approx(2 / 12)
    assert ours["end"]["mean"] == pytest.approx(6 / 12)
    assert ours["change"]["mean"] == pytest.approx(4 / 12)
    assert ours["difference"]["mean"] == pytest.approx(3 / 12)
    assert ours["end_by_seed"] == {1: pytest.approx(0.5), 2: pytest.approx(0.5)}
    assert "difference" not in found["controls"]["plain"]["pass"]["1"]
    # pass@2 of c right out of 4: 1 - C(4 - c, 2) / C(4, 2)
    assert found["controls"]["plain"]["pass"]["2"]["end"]["mean"] == pytest.approx((0.5 + 0 + 5 / 6) / 3)


def test_a_difference_is_paired_in_seeds_and_problems() -> None:
    rng = np.random.default_rng(0)
    wild = rng.integers(0, 60, size=(2, 40))
    groups = {
        label: [
            unit_result(
                label,
                s,
                [step_point(0)],
                [evaluation(0, wild[s] + more, 64), evaluation(1, wild[s] + more, 64)],
            )
            for s in (0, 1)
        ]
        for label, more in (("plain", 0), ("better", 4))
    }
    found = comparison(groups)["controls"]["better"]["pass"]["1"]
    for name in ("mean", "low95", "high95"):
        assert found["difference"][name] == pytest.approx(4 / 64)
    assert found["end"]["high95"] - found["end"]["low95"] > 0.1


def test_cost_is_that_of_training_and_at_equal_cost_evaluations_are_interpolated() -> None:
    found = comparison(pair())
    plain, ours = found["controls"]["plain"], found["controls"]["ours"]
    assert (plain["cost"]["wall_seconds"]["mean"], ours["cost"]["wall_seconds"]["mean"]) == (16, 32)
    assert (plain["cost"]["generated_tokens"]["mean"], ours["cost"]["generated_tokens"]["mean"]) == (
        800,
        1600,
    )
    assert found["budgets"] == {"wall_seconds": 16, "generated_tokens": 800}
    # 800 tokens are the end of the baseline and the fourth step of the control, evaluated with 2 samples
    equal = ours["at_equal_cost"]["generated_tokens"]["pass"]
    assert equal["1"]["value"]["mean"] == pytest.approx((0 + 0 + 1) / 3)
    assert equal["1"]["difference"]["mean"] == pytest.approx(1 / 3 - 3 / 12)
    assert equal.keys() == {"1", "2"}, "two samples must not give a pass@4"
    assert plain["at_equal_cost"]["generated_tokens"]["pass"]["4"]["value"] == plain["pass"]["4"]["end"]


def test_half_way_between_two_evaluations_the_value_is_half_way() -> None:
    (unit, _) = pair()["ours"]
    found = statistics.at_cost(unit, statistics.seconds, 24, 1)
    assert found is not None
    np.testing.assert_allclose(found, [(0 + 0.5) / 2, 0, (1 + 1) / 2])
    assert statistics.at_cost(unit, statistics.seconds, 33, 1) is None
    ends = msgspec.structs.replace(unit, evaluations=[unit.evaluations[0], unit.evaluations[-1]])
    assert statistics.at_cost(ends, statistics.seconds, 24, 1) is None, "a line across the whole run"


def test_a_table_is_the_same_in_markdown_and_on_the_terminal() -> None:
    table = Table("Title", ["control", "a"], [["grpo", "1.5"], ["scope_paper", "–"]])
    assert table.text().splitlines() == ["Title", "control        a", "grpo         1.5", "scope_paper    –"]
    assert table.markdown().splitlines()[2:] == [
        "| control | a |",
        "| --- | ---: |",
        "| grpo | 1.5 |",
        "| scope_paper | – |",
    ]


def test_the_page_and_the_pictures_show_every_control(tmp_path: Path) -> None:
    groups = pair()
    document = {"title": "t", "command": "scope compare", "source": "in-process", **comparison(groups)}
    json.dumps(document, allow_nan=False)
    names = plot_all(tmp_path, groups, document)
    assert names == ["entropy.png", "actuators.png", "reward.png", "pass_at_k.png", "trajectory.png"]
    for name in names:
        picture = matplotlib.image.imread(tmp_path / name)
        assert picture.shape[1] > 1000
        assert picture[..., :3].std() > 0.03, f"{name} is empty"
    for text in (terminal(document), markdown(document, names)):
        assert "plain" in text
        assert "+0.250 [" in text
        assert "The same at equal generated tokens: 800 tokens" in text
        assert "95 %" in text
