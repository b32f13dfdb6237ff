"""Presets and grids are configurations that a user could write with `--set`."""

from __future__ import annotations

import pytest

from tests.support.repository import QUICKSTART
from trainer.config import RunConfig
from trainer.config.load import load_config
from trainer.config.presets import NAMES, as_settings, grid, preset
from trainer.errors import ScopeError


def load(overrides: dict[str, str | float], before: list[str] | None = None) -> RunConfig:
    return load_config(QUICKSTART, [*(before or []), *as_settings(overrides)])


def value_of(config: RunConfig, field: str) -> object:
    value: object = config
    for name in field.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_and_every_point_of_its_grid_is_a_valid_run_with_exactly_its_values(name):
    for overrides in (preset(name), *grid(name)):
        config = load(overrides)
        for field, value in overrides.items():
            assert value_of(config, field) == value


@pytest.mark.parametrize("name", NAMES)
def test_every_control_but_grpo_is_tuned_over_at_least_four_values(name):
    points = [tuple(sorted(point.items())) for point in grid(name)]
    assert len(set(points)) == len(points)
    assert len(points) >= 4 or name == "grpo"
    for point in grid(name):
        assert point.items() >= {k: v for k, v in preset(name).items() if k in ("regularizer.kind",)}.items()
        assert point["entropy_control.kind"] == preset(name)["entropy_control.kind"]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_means_the_same_on_top_of_any_other(name):
    for other in NAMES:
        config = load(preset(name), as_settings(preset(other)))
        assert (config.entropy_control.kind, config.regularizer.kind) == (
            preset(name)["entropy_control.kind"],
            preset(name)["regularizer.kind"],
        )


def test_rivals_need_no_adaptive_rollouts_and_laws_do():
    roles = {name: load(preset(name)).roles for name in NAMES}
    with_adaptive = {name for name, used in roles.items() if "adaptive" in used}
    assert with_adaptive == {"aepo_v1", "scope_paper", "scope"}


def test_the_papers_preset_has_the_papers_constants():
    config = load(preset("scope_paper"))
    law = config.entropy_control.paper
    assert (law.t_min, law.t_max, law.alpha) == (0.8, 1.2, 1 / 64)
    assert config.entropy_control.normalization == "sum"
    assert config.entropy_control.paper.surprisal_exponent == 0
    assert (config.loss.clip_low, config.loss.clip_high, config.loss.aggregation) == (
        0.2,
        0.2,
        "sequence_mean",
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("GRPO", "grpo"), ("kl-cov", "kl_cov"), ("paper", "scope_paper"), ("bonus", "entropy_bonus")],
)
def test_an_unknown_preset_is_refused_with_the_nearest_name(name, nearest):
    for ask in (preset, grid):
        with pytest.raises(ScopeError, match=f"{name!r}.*nearest valid name is {nearest};"):
            ask(name)


def test_a_preset_handed_out_can_be_changed_without_changing_the_next():
    preset("grpo")["steps"] = 1
    assert "steps" not in preset("grpo")
