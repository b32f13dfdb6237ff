"""The project's own control law in closed loop with the measured plant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from tests.support.plant_model import closed_loop, moving_average
from trainer.config import SplitRangeLaw
from trainer.entropy_control import Actuators
from trainer.entropy_control.split_range import SplitRangeController


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
@pytest.mark.parametrize("target", [0.175, 0.29, 0.41])
def test_the_defaults_hold_every_entropy_target_on_the_measured_plant(target, staleness):
    for seed in range(5):
        trace, acted = closed_loop(SplitRangeLaw(), lambda _: target, staleness=staleness, seed=seed)
        smooth = moving_average(trace)
        assert abs(trace[-60:].mean() - target) <= 0.02
        assert np.sqrt(((smooth[-60:] - target) ** 2).mean()) <= 0.03
        assert np.mean([a.saturated for a in acted[-60:]]) < 0.2
        assert smooth.min() > target - 0.1, "the entropy falls far below the target before it settles"


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
@pytest.mark.parametrize(("before", "after"), [(0.29, 0.41), (0.29, 0.17)])
def test_a_live_step_settles_in_time_without_much_overshoot(before, after, staleness):
    for seed in range(5):
        trace, _ = closed_loop(
            SplitRangeLaw(), lambda step: before if step < 80 else after, staleness=staleness, seed=seed
        )
        smooth = moving_average(trace)[76:] - after
        outside = np.flatnonzero(np.abs(smooth) > 0.04)
        assert outside[-1] + 1 <= 25 + 5 * staleness
        assert (smooth * np.sign(after - before)).max() <= 0.3 * abs(after - before)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_plant_half_or_twice_as_strong_is_held_without_a_growing_oscillation(gain):
    trace, _ = closed_loop(SplitRangeLaw(), lambda _: 0.29, staleness=4, gain=gain, steps=300)
    assert abs(trace[-60:].mean() - 0.29) <= 0.02
    middle, last = (np.ptp(moving_average(part)) for part in (trace[100:200], trace[200:]))
    assert last <= middle + 0.02


def tracking_error(law: SplitRangeLaw, *, gain: float, pace: float = 1.0) -> float:
    """RMS of the 5-step average over the last 60 of 240 steps, averaged over eight seeds, in nats."""
    return float(
        np.mean(
            [
                np.sqrt(np.mean((moving_average(trace)[-60:] - 0.29) ** 2))
                for trace, _ in (
                    closed_loop(law, lambda _: 0.29, gain=gain, pace=pace, steps=240, seed=seed)
                    for seed in range(8)
                )
            ]
        )
    )


@pytest.mark.parametrize(("gain", "pace", "share"), [(2.6, 1.0, 0.95), (2.0, 2.0, 0.95)])
def test_the_law_grows_gentler_on_a_plant_that_proves_stronger_than_was_said(gain, pace, share):
    fixed = tracking_error(SplitRangeLaw(gain_memory=0), gain=gain, pace=pace)
    assert tracking_error(SplitRangeLaw(), gain=gain, pace=pace) < share * fixed


@pytest.mark.parametrize("noise", [0.012, 0.03])
def test_on_the_plant_that_it_was_tuned_on_the_law_keeps_its_gains(noise):
    for seed in range(4):
        controller = SplitRangeController(SplitRangeLaw(), max_staleness=1)
        closed_loop(SplitRangeLaw(), live_steps, steps=240, seed=seed, noise=noise, controller=controller)
        assert controller.plant_gain == SplitRangeLaw().plant_gain


@pytest.mark.parametrize(("gain", "raised"), [(3.0, 1.2), (4.0, 1.6)])
def test_what_the_law_measured_of_a_strong_plant_stays_in_force_while_nothing_swings(gain, raised):
    for seed in range(4):
        controller = SplitRangeController(SplitRangeLaw(), max_staleness=1)
        closed_loop(SplitRangeLaw(), live_steps, steps=400, seed=seed, gain=gain, controller=controller)
        assert controller.plant_gain > raised * SplitRangeLaw().plant_gain


@pytest.mark.parametrize("staleness", [0, 1, 4])
@pytest.mark.parametrize(("gain", "pace"), [(2.0, 1.0), (3.0, 1.0), (1.0, 3.0), (2.0, 1.5)])
def test_on_a_plant_two_or_three_times_as_strong_no_swing_returns(gain, pace, staleness):
    for seed in range(4):
        trace, _ = closed_loop(
            SplitRangeLaw(), lambda _: 0.29, gain=gain, pace=pace, staleness=staleness, steps=400, seed=seed
        )
        error = moving_average(trace)[137:] - 0.29
        assert np.sqrt((error.reshape(-1, 37) ** 2).mean(1)).max() <= 0.011, "the noise alone has 0.0054"


@pytest.mark.parametrize(
    ("noise", "staleness", "temperature", "alpha", "rms"),
    [
        (0.01, 0, 0.0812, 0.2222, 0.0054),
        (0.01, 1, 0.0767, 0.2086, 0.0056),
        (0.01, 4, 0.0655, 0.1766, 0.0057),
        (0.02, 0, 0.1579, 0.4159, 0.0104),
        (0.02, 1, 0.1495, 0.3896, 0.0108),
        (0.02, 4, 0.1278, 0.3286, 0.0106),
        (0.04, 0, 0.2677, 0.6302, 0.0220),
        (0.04, 1, 0.2589, 0.6231, 0.0217),
        (0.04, 4, 0.2345, 0.5761, 0.0206),
    ],
)
def test_held_entropy_is_tracked_as_with_a_first_order_filter_by_half_the_moves(
    noise, staleness, temperature, alpha, rms
):
    """temperature, alpha: mean absolute changes a step under this law with a first-order filter of half a step."""
    changes, errors = [], []
    for seed in range(6):
        trace, acted = closed_loop(
            SplitRangeLaw(), lambda _: 0.29, noise=noise, staleness=staleness, seed=seed
        )
        moves = np.diff([(a.temperature, a.alpha) for a in acted], axis=0)[-60:]
        changes.append(np.abs(moves).mean(0))
        errors.append(np.sqrt(np.mean((moving_average(trace)[-60:] - 0.29) ** 2)))
    assert (np.mean(changes, 0) <= (temperature / 2, alpha / 2)).all()
    assert np.mean(errors) <= 1.05 * rms


@pytest.mark.parametrize(("staleness", "temperature"), [(0, 0.1005), (1, 0.0949), (4, 0.0809)])
def test_live_steps_settle_in_time_by_half_the_moves(staleness, temperature):
    """temperature: mean absolute change a step under this law with a first-order filter of half a step."""
    changes = []
    for seed in range(5):
        trace, acted = closed_loop(SplitRangeLaw(), live_steps, staleness=staleness, seed=seed)
        for begin, end in ((60, 110), (110, 160)):
            outside = np.flatnonzero(
                np.abs(moving_average(trace[begin - 4 : end]) - live_steps(begin)) > 0.04
            )
            assert outside[-1] + 1 <= 25 + 5 * staleness
        changes.append(np.abs(np.diff([a.temperature for a in acted])).mean())
    assert np.mean(changes) <= temperature / 2


def live_steps(step: int) -> float:
    """The target of the live steps of `benchmarks/entropy/tracking.py`."""
    return 0.41 if 60 <= step < 110 else 0.29


@pytest.mark.parametrize("memory", [-1, 0.5, 19])
def test_a_memory_too_short_to_measure_with_is_refused(memory):
    with pytest.raises(ValidationError, match="gain_memory"):
        SplitRangeLaw(gain_memory=memory)


@pytest.mark.parametrize(("pace", "steps"), [(0.05, 1200), (0.1, 800), (0.3, 400), (3.0, 160)])
def test_the_defaults_hold_a_plant_of_another_pace(pace, steps):
    """A plant a twentieth to three times as fast as the one the gains were tuned on settles more slowly but is held."""
    for seed in range(3):
        trace, acted = closed_loop(SplitRangeLaw(), lambda _: 0.41, pace=pace, steps=steps, seed=seed)
        rest = slice(-steps // 4, None)
        assert abs(trace[rest].mean() - 0.41) <= 0.02
        assert np.sqrt(((moving_average(trace)[rest] - 0.41) ** 2).mean()) <= 0.03
        assert np.mean([a.saturated for a in acted[rest]]) < 0.2


def only_below(temperature: float) -> Callable[[float], float]:
    """A share of successes of 25 % at a temperature of 1 and below, which falls to nothing at `temperature`."""
    return lambda at: 0.25 * min(1.0, max(0.0, (temperature - at) / (temperature - 1)))


HOT = {"integral": 1.0, "output": 1.0, "limit": 1.0, "filtered": 0.1, "reference": 0.1, "rate": 0.0}
"""a law at full heat"""


@pytest.mark.parametrize("staleness", [0, 1, 4])
@pytest.mark.parametrize("highest", [1.1, 1.2, 1.35])
@pytest.mark.parametrize(("start", "restored"), [(0.5, None), (0.1, HOT)], ids=["falling", "locked"])
def test_where_nothing_hot_succeeds_the_law_comes_back_to_what_does(staleness, highest, start, restored):
    def settled(law: SplitRangeLaw) -> tuple[float, list[Actuators]]:
        trace, acted = closed_loop(
            law,
            lambda _: 0.4,
            steps=240,
            start=start,
            staleness=staleness,
            success=only_below(highest),
            restored=restored,
        )
        return float(trace[-60:].mean()), acted[-60:]

    entropy, acted = settled(SplitRangeLaw())
    assert entropy == pytest.approx(0.4, abs=0.03)
    assert np.mean([a.temperature for a in acted]) < highest
    if restored is not None:
        locked, hot = settled(SplitRangeLaw(success_floor=0))
        assert locked < 0.05
        assert {a.temperature for a in hot} == {1.5}


def test_a_task_at_which_hardly_anything_succeeds_is_sampled_as_cool_as_base_rollouts_and_called_starved():
    _, acted = closed_loop(SplitRangeLaw(), lambda _: 0.4, start=0.2, success=lambda at: 0.004)
    assert {a.limit for a in acted[-60:]} == {"starved"}
    assert {a.temperature for a in acted[-60:]} == {1.0}


def test_where_many_succeed_the_floor_changes_nothing():
    with_floor, acted = closed_loop(SplitRangeLaw(), lambda _: 0.4, start=0.2)
    without, as_before = closed_loop(SplitRangeLaw(success_floor=0), lambda _: 0.4, start=0.2)
    np.testing.assert_array_equal(with_floor, without)
    assert acted == as_before


def test_without_control_the_plant_collapses():
    """The closed-loop tests mean something only if the model collapses by itself."""
    idle = SplitRangeLaw(plant_gain=1e6)
    trace, _ = closed_loop(idle, lambda _: 0.41)
    assert trace[-1] < 0.32


def test_an_unreachable_entropy_target_saturates_says_so_and_winds_nothing_up():
    """The plant cannot reach 1.2 nats: apart from noise u is at its limit, and reacts at once to a lower target."""
    trace, acted = closed_loop(
        SplitRangeLaw(), lambda step: 1.2 if step < 120 else 0.35, steps=200, staleness=1
    )
    assert np.mean([a.limit == "heating" for a in acted[60:120]]) > 0.5
    assert min(a.temperature for a in acted[60:120]) > 1.3
    assert np.mean([a.temperature for a in acted[120:140]]) < 1.15
    smooth = moving_average(trace)[170:]
    assert np.abs(smooth - 0.35).max() <= 0.04
