"""Every control law by hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import BangBangLaw, EntropyControlConfig, PaperLaw, SplitRangeLaw
from trainer.entropy_control import NEUTRAL, Actuators, Controller, make_controller
from trainer.entropy_control.aepo_v1 import BangBangController
from trainer.entropy_control.paper import PaperController
from trainer.entropy_control.split_range import SplitRangeController

LAW = SplitRangeLaw(
    plant_gain=0.02,
    lag_steps=0.0,
    response_steps=10.0,
    ramp=10.0,
    lead=10.0,
    back_calculation=0.5,
    t_min=0.5,
    t_max=1.5,
    alpha=0.2,
    alpha_max=2.2,
    surprisal_exponent=1.0,
    surprisal_exponent_max=3.0,
)
# theta = 2 and lambda = 10: kp = 22 / (0.02 * 12^2), ki = kp / 22.
KP = 22 / (0.02 * 144)
KI = KP / 22


def fresh(kind: str) -> Controller:
    return make_controller(EntropyControlConfig.model_validate({"kind": kind}), max_staleness=1)


def split_range(**changes: float) -> SplitRangeController:
    """`LAW` with changes and without staleness, so that its gains are KP and KI."""
    return SplitRangeController(LAW.model_copy(update=changes), max_staleness=0)


kinds = st.sampled_from(["none", "paper", "aepo_v1", "split_range"])
entropies = st.floats(0, 5) | st.just(math.nan) | st.just(math.inf)
histories = st.lists(st.tuples(entropies, st.floats(0.01, 5), st.integers(0, 3)), max_size=40)


@pytest.mark.parametrize(
    ("entropy", "temperature", "limit"),
    [
        (0.5, 1.0, "none"),
        (0.4, 1.1, "none"),
        (0.65, 0.85, "none"),
        (0.2, 1.2, "heating"),
        (2.0, 0.8, "cooling"),
    ],
)
def test_paper_law_by_hand(entropy, temperature, limit):
    actuators = PaperController(PaperLaw()).update(entropy, 0.5, positives=1, rollouts=1)
    assert actuators.temperature == pytest.approx(temperature)
    assert (actuators.alpha, actuators.surprisal_exponent) == (1 / 64, 0.0)
    assert actuators.limit == limit


def test_paper_law_forgets_the_past():
    controller = PaperController(PaperLaw())
    for entropy in (3.0, 0.0, 1.0):
        controller.update(entropy, 0.5, positives=0, rollouts=1)
    assert controller.update(0.45, 0.5, positives=1, rollouts=1) == PaperController(PaperLaw()).update(
        0.45, 0.5, positives=1, rollouts=1
    )


@pytest.mark.parametrize(("entropy", "temperature"), [(0.49, 1.2), (0.5, 0.8), (0.6, 0.8), (math.nan, 1.0)])
def test_aepo_v1_switches_at_the_entropy_target(entropy, temperature):
    actuators = BangBangController(BangBangLaw()).update(entropy, 0.5, positives=1, rollouts=1)
    assert actuators == Actuators(temperature, 1 / 64)


def test_split_range_gains_follow_from_the_plant_and_the_dead_time():
    assert split_range().gains == pytest.approx((KP, KI))
    stale = SplitRangeController(LAW, max_staleness=2)
    assert stale.gains == pytest.approx((23 / (0.02 * 13**2), 1 / (0.02 * 13**2)))


def test_split_range_heats_with_all_three_actuators():
    """The reference starts at the first measurement; 0.05 nats above the second, u = kp 0.05."""
    controller = split_range()
    assert controller.update(0.5, 0.5, positives=1, rollouts=1) == Actuators(1.0, 0.2, 1.0)
    actuators = controller.update(0.45, 0.5, positives=1, rollouts=1)
    u = KP * 0.05
    assert actuators.temperature == pytest.approx(1 + 0.5 * u)
    assert actuators.alpha == pytest.approx(0.2 + 2 * u)
    assert actuators.surprisal_exponent == pytest.approx(1 + 2 * u)
    again = controller.update(0.45, 0.5, positives=1, rollouts=1)
    assert again.temperature == pytest.approx(1 + 0.5 * (u + KI * 0.05))
    assert not again.saturated


def test_split_range_cools_with_all_three_actuators():
    controller = split_range()
    controller.update(0.5, 0.5, positives=1, rollouts=1)
    actuators = controller.update(0.56, 0.5, positives=1, rollouts=1)
    u = KP * 0.06
    assert actuators.temperature == pytest.approx(1 - 0.5 * u)
    assert actuators.alpha == pytest.approx(0.2 + 2 * u)
    assert actuators.surprisal_exponent == pytest.approx(1 - 2 * u)
    assert controller.update(0.6, 0.5, positives=1, rollouts=1).surprisal_exponent == 0


def test_split_range_says_which_limit_it_is_at_and_calculates_the_integral_back():
    controller = split_range()
    controller.update(0.5, 0.5, positives=1, rollouts=1)
    hot = controller.update(0.2, 0.5, positives=1, rollouts=1)
    assert (hot.temperature, hot.alpha, hot.surprisal_exponent, hot.limit) == (1.5, 2.2, 3.0, "heating")
    assert controller.state()["integral"] == pytest.approx(KI * 0.3 + 0.5 * (1 - KP * 0.3))
    cold = split_range()
    cold.update(0.5, 0.5, positives=1, rollouts=1)
    actuators = cold.update(0.9, 0.5, positives=1, rollouts=1)
    assert (actuators.temperature, actuators.alpha, actuators.surprisal_exponent) == (0.5, 2.2, 0.0)
    assert actuators.limit == "cooling"


def test_the_reference_moves_to_the_entropy_target_at_a_limited_rate_which_is_fed_forward():
    """From 0.8 towards 0.77 by 0.01 per step; the measurement follows exactly, so that only the feedforward acts."""
    controller = split_range(ramp=0.01, back_calculation=0.0)
    for reference in (0.79, 0.78, 0.77):
        before = controller.state().get("reference", 0.8)
        actuators = controller.update(reference if before < 0.8 else 0.8, 0.77, positives=0, rollouts=1)
        assert controller.state()["reference"] == pytest.approx(reference)
    assert actuators.temperature == pytest.approx(1 - 0.5 * 0.01 / 0.02)
    assert controller.update(0.77, 0.77, positives=0, rollouts=1).temperature == pytest.approx(1.0)


def test_the_reference_waits_for_a_measurement_that_does_not_follow():
    controller = split_range(ramp=0.01, lead=0.03)
    for _ in range(20):
        controller.update(0.8, 0.3, positives=1, rollouts=1)
    assert controller.state()["reference"] == pytest.approx(0.77)
    controller.update(0.5, 0.3, positives=1, rollouts=1)
    assert controller.state()["reference"] == pytest.approx(0.76)


def test_the_derivative_looks_ahead_over_the_lag_and_the_dead_time_by_the_filtered_rate():
    controller = split_range(back_calculation=0.0, lag_steps=3.0)
    controller.update(0.5, 0.5, positives=0, rollouts=1)
    controller.update(0.51, 0.5, positives=0, rollouts=1)
    rate = controller.state()["drift"]
    assert 0.005 < rate < 0.01
    assert controller.actuators.temperature == pytest.approx(1 - 0.5 * KP * (0.01 + (3 + 2) * rate))


def test_a_new_entropy_target_moves_the_output_by_no_more_than_the_ramp_asks():
    """Bumpless: a distant new target, set at rest, first changes u by (kp + 1 / g) ramp, not by kp times the change."""
    controller = split_range(ramp=0.002)
    for _ in range(5):
        controller.update(0.4, 0.4, positives=1, rollouts=1)
    actuators = controller.update(0.4, 1.4, positives=1, rollouts=1)
    assert actuators.temperature == pytest.approx(1 + 0.5 * (KP + 1 / 0.02) * 0.002)


def test_another_law_s_temperature_is_taken_over_without_a_bump():
    paper = PaperController(PaperLaw())
    left = paper.update(0.35, 0.5, positives=1, rollouts=1)
    controller = split_range()
    controller.take_over(paper.state()["temperature"])
    assert controller.actuators.temperature == pytest.approx(left.temperature)
    assert controller.update(0.35, 0.35, positives=1, rollouts=1).temperature == pytest.approx(
        left.temperature
    )


def test_with_negatives_the_law_asks_for_the_inverse_temperature_and_no_surprisal_weights():
    config = EntropyControlConfig(kind="paper", samples="negatives", paper=PaperLaw(surprisal_exponent=2.0))
    controller = make_controller(config, max_staleness=0)
    controller.update(0.35, 0.5, positives=1, rollouts=1)
    assert controller.actuators == Actuators(1 / 1.15, 1 / 64, surprisal_exponent=0.0)
    again = make_controller(config, max_staleness=0)
    again.restore(controller.state())
    assert again.actuators == controller.actuators


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("none", NEUTRAL),
        ("paper", Actuators(1.0, 1 / 64)),
        ("split_range", Actuators(1.0, SplitRangeLaw().alpha, SplitRangeLaw().surprisal_exponent)),
    ],
)
def test_every_law_is_at_rest_before_a_measurement_and_at_zero_error(kind, rest):
    controller = fresh(kind)
    assert controller.actuators == rest
    for _ in range(5):
        assert controller.update(0.4, 0.4, positives=2, rollouts=4) == rest


@given(kinds, histories, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_an_entropy_that_is_not_finite_holds_everything(kind, history, broken):
    controller = fresh(kind)
    for entropy, target, positives in history:
        controller.update(entropy, target, positives=positives, rollouts=8)
    before, held = controller.state(), controller.actuators
    assert controller.update(broken, 0.5, positives=4, rollouts=8) == held
    np.testing.assert_equal(controller.state(), before)


def test_a_step_without_positives_freezes_the_integrator_alone():
    frozen, running = split_range(success_floor=0), split_range(success_floor=0)
    for controller in (frozen, running):
        controller.update(0.5, 0.5, positives=1, rollouts=1)
        controller.update(0.48, 0.5, positives=1, rollouts=1)
    integral = frozen.state()["integral"]
    for _ in range(5):
        hold = frozen.update(0.47, 0.5, positives=0, rollouts=1)
        running.update(0.47, 0.5, positives=1, rollouts=1)
    assert frozen.state()["integral"] == integral < running.state()["integral"]
    assert hold.temperature == pytest.approx(1 + 0.5 * (KP * 0.03 + integral))


@given(kinds, histories, st.integers(0, 40))
def test_a_restored_controller_continues_the_identical_sequence_also_in_mid_ramp(kind, history, cut):
    whole, before, after = fresh(kind), fresh(kind), fresh(kind)
    expected = [whole.update(h, target, positives=p, rollouts=8) for h, target, p in history]
    first = [before.update(h, target, positives=p, rollouts=8) for h, target, p in history[:cut]]
    after.restore(before.state())
    assert after.actuators == before.actuators
    assert (
        first + [after.update(h, target, positives=p, rollouts=8) for h, target, p in history[cut:]]
        == expected
    )


@given(
    histories,
    st.floats(1e-4, 10),
    st.floats(1, 100),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.05, 1),
    st.floats(1, 2),
)
@settings(max_examples=200)
def test_outputs_stay_within_the_ranges_whatever_the_gains(
    history, gain, response, back, error, t_min, t_max
):
    law = SplitRangeLaw(
        plant_gain=gain,
        response_steps=response,
        back_calculation=back,
        t_min=t_min,
        t_max=t_max,
    )
    split = SplitRangeController(law, max_staleness=2)
    controllers: tuple[Controller, ...] = (split, PaperController(PaperLaw(t_min=t_min, t_max=t_max)))
    for entropy, target, positives in history:
        for controller in controllers:
            actuators = controller.update(entropy, target, positives=positives, rollouts=8, error=error)
            assert t_min - 1e-12 <= actuators.temperature <= t_max + 1e-12
        assert law.alpha <= split.actuators.alpha <= law.alpha_max + 1e-12
        assert 0 <= split.actuators.surprisal_exponent <= law.surprisal_exponent_max + 1e-12
        assert -1 <= split.state()["integral"] <= 1
