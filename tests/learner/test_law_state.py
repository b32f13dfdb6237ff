"""A checkpoint's control law and regularizer, continued under the same kinds and under any others."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.learner.law_state import law_state, restore_laws
from services.redis.access import RedisAccess
from tests.support.loss_cases import KINDS
from tests.support.runs.incarnations import Incarnations, measured
from trainer.checkpoint.store import LearnerState, read_state
from trainer.config import RunConfig
from trainer.config.load import default_config
from trainer.entropy_control import NEUTRAL, Actuators, Controller, make_controller
from trainer.regularizers import StrengthLaw, make_strength_law

LAWS = ("none", "paper", "aepo_v1", "split_range")
ENTROPY, TARGET = 0.3, 0.44
"""nats per token; the laws heat"""
CAUTIOUS = "entropy_control.split_range.plant_gain=0.1"
"""keeps the split-range law, like the others, away from its limits and from those of the others"""


class Laws:
    """Both laws of a run, as the learner makes them."""

    def __init__(self, *overrides: str) -> None:
        self.config: RunConfig = default_config([CAUTIOUS, *overrides])
        self.controller: Controller = make_controller(self.config.entropy_control, max_staleness=1)
        self.strength_law: StrengthLaw = make_strength_law(self.config.regularizer)

    def measure(self, steps: int = 6) -> Actuators:
        """Make steps with the same entropy; returns the last actuators."""
        for _ in range(steps):
            self.controller.update(ENTROPY, TARGET, positives=90, rollouts=100)
            self.strength_law.update(ENTROPY, TARGET)
        return self.controller.actuators

    def checkpoint(self, *, kinds: bool = True) -> LearnerState:
        """What a learner finds after it wrote these laws; kinds: whether the checkpoint says which ones they are."""
        fields: dict[str, Any] = law_state(self.config, self.controller, self.strength_law)
        if not kinds:
            del fields["controller_kind"], fields["regularizer_kind"]
        state = LearnerState(
            step=6,
            lineage=1,
            config_hash="h",
            workers=1,
            zero_stage=2,
            entropy_target_generation=0,
            consumed=[],
            **fields,
        )
        return msgspec.json.decode(msgspec.json.encode(state), type=LearnerState)

    def continue_from(self, restored: LearnerState) -> Laws:
        restore_laws(restored, self.config, self.controller, self.strength_law)
        return self


@pytest.mark.parametrize("kinds", [True, False])
@pytest.mark.parametrize(("before", "after"), list(permutations(LAWS, 2)))
def test_another_law_begins_at_the_temperature_in_force(before: str, after: str, kinds: bool) -> None:
    old = Laws(f"entropy_control.kind={before}")
    acted = old.measure()
    new = Laws(f"entropy_control.kind={after}").continue_from(old.checkpoint(kinds=kinds))
    begun = new.controller.actuators
    assert begun.limit == "none"
    if after == "none":
        assert begun == NEUTRAL
    else:
        assert begun.temperature == pytest.approx(acted.temperature)
    assert new.measure(1).temperature >= 1, "the law goes on to heat"


def test_a_law_takes_over_no_more_than_its_limits_allow() -> None:
    hot = Laws("entropy_control.kind=aepo_v1", "entropy_control.aepo_v1.t_hot=1.9")
    hot.measure()
    for kind, most in (("paper", 1.2), ("split_range", 1.5)):
        new = Laws(f"entropy_control.kind={kind}").continue_from(hot.checkpoint())
        assert new.controller.actuators.temperature == pytest.approx(most)


def test_a_checkpoint_without_kind_and_temperature_lets_another_law_begin_neutral() -> None:
    old = Laws()
    old.measure()
    state = old.checkpoint(kinds=False)
    del state.controller["temperature"]
    assert Laws().continue_from(state).controller.actuators == old.controller.actuators
    new = Laws("entropy_control.kind=paper").continue_from(state)
    assert new.controller.actuators == Laws("entropy_control.kind=paper").controller.actuators


@pytest.mark.parametrize("kinds", [True, False])
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("samples", ["positives", "negatives"])
def test_the_same_law_continues_as_if_it_had_not_stopped(kind: str, samples: str, kinds: bool) -> None:
    overrides = (
        f"entropy_control.kind={kind}",
        f"entropy_control.samples={samples}",
        "regularizer.kind=adaptive_coefficient",
    )
    old = Laws(*overrides)
    old.measure()
    new = Laws(*overrides).continue_from(old.checkpoint(kinds=kinds))
    assert new.controller.actuators == old.controller.actuators
    assert new.strength_law.strength == old.strength_law.strength > 0
    assert new.measure() == old.measure()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("paper", "paper.t_max=1.05"),
        ("aepo_v1", "aepo_v1.t_hot=1.05"),
        ("split_range", "split_range.t_max=1.05"),
    ],
)
def test_a_lower_limit_clips_the_temperature_of_the_checkpoint(kind: str, change: str) -> None:
    old = Laws(f"entropy_control.kind={kind}")
    old.measure()
    new = Laws(f"entropy_control.kind={kind}", f"entropy_control.{change}").continue_from(old.checkpoint())
    assert 1 < new.controller.actuators.temperature <= 1.05


@pytest.mark.parametrize(("before", "after"), [("60", "0"), ("0", "60")])
def test_measuring_the_plant_can_be_switched_while_the_output_stays(before: str, after: str) -> None:
    old = Laws(f"entropy_control.split_range.gain_memory={before}")
    acted = old.measure(30)
    new = Laws(f"entropy_control.split_range.gain_memory={after}").continue_from(old.checkpoint())
    assert new.controller.actuators == acted
    new.measure(30)


def test_a_law_that_acts_through_negatives_from_here_on_mirrors_the_same_output() -> None:
    old = Laws()
    acted = old.measure()
    new = Laws("entropy_control.samples=negatives", "entropy_control.kind=paper")
    begun = new.continue_from(old.checkpoint()).controller.actuators
    assert begun.temperature == pytest.approx(1 / acted.temperature)


@pytest.mark.parametrize("kinds", [True, False])
@pytest.mark.parametrize(("before", "after"), list(permutations(KINDS, 2)))
def test_the_strength_of_another_regularizer_begins_anew(before: str, after: str, kinds: bool) -> None:
    old = Laws(f"regularizer.kind={before}")
    old.measure()
    new = Laws(f"regularizer.kind={after}").continue_from(old.checkpoint(kinds=kinds))
    fresh = Laws(f"regularizer.kind={after}")
    assert new.strength_law.strength == fresh.strength_law.strength
    assert new.strength_law.state() == fresh.strength_law.state()
    assert new.strength_law.update(ENTROPY, TARGET) == fresh.strength_law.update(ENTROPY, TARGET)


@pytest.mark.parametrize(
    ("kind", "change", "most"),
    [
        ("adaptive_coefficient", "adaptive_coefficient.maximum=0.006", 0.006),
        ("dcpo", "dcpo.cap=0.05", 0.05),
    ],
)
def test_a_lower_limit_clips_the_strength_of_the_checkpoint(kind: str, change: str, most: float) -> None:
    old = Laws(f"regularizer.kind={kind}")
    old.measure()
    assert old.strength_law.strength > most
    new = Laws(f"regularizer.kind={kind}", f"regularizer.{change}").continue_from(old.checkpoint())
    assert new.strength_law.strength == most


def test_a_learner_goes_on_under_one_law_after_another(
    redis_access: RedisAccess, run_id: str, tmp_path: Path
) -> None:
    incarnations = Incarnations(redis_access, run_id, tmp_path / run_id)
    try:
        temperature = 1.0
        for law, regularizer in [
            ("paper", "dcpo"),
            ("split_range", "adaptive_coefficient"),
            ("aepo_v1", "none"),
        ]:
            change = {
                "entropy_control.kind": law,
                "entropy_control.aepo_v1.t_hot": 1.6,
                "regularizer.kind": regularizer,
            }
            incarnations.config = _changed(incarnations.config, change)
            learner = incarnations.begin()
            order, _ = learner.next_order(incarnations.step)
            incarnations.step += 1
            assert order.actuators.temperature == pytest.approx(temperature)
            learner.learned(measured(0.35), 1.0)
            incarnations.learn(learner, 1)
            learner.learned(measured(0.35), 1.0)
            temperature = read_state(incarnations.checkpoint(learner)).controller["temperature"]
            assert temperature >= 1
    finally:
        incarnations.close()


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """The configuration with other values, by path."""
    document = config.model_dump()
    for path, value in changes.items():
        *blocks, name = path.split(".")
        block = document
        for part in blocks:
            block = block[part]
        block[name] = value
    return RunConfig.model_validate(document)
