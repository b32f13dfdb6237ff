"""The filter of the measured entropy, and its estimate of the plant's gain in closed loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.entropy_control.entropy_filter import EntropyFilter

GAIN, LAG = 0.023, 5.0
SWING = np.sin(np.arange(120) / 4)
STILL = np.zeros(400)


def fresh(memory: float = 60) -> EntropyFilter:
    return EntropyFilter(gain=GAIN, lag=LAG, memory=memory)


def measured(
    *parts: tuple[np.ndarray, float], drift: float = -0.004, noise: float = 0.0
) -> tuple[EntropyFilter, np.ndarray, np.ndarray]:
    """The filter after moving the plant H' = H + drift + gain x, and the entropy of each step, true and filtered.

    parts: outputs of the law, and the gain meanwhile; x is the lagged output of two steps before.
    """
    plant, rng = fresh(), np.random.default_rng(3)
    outputs = np.concatenate([part for part, _ in parts])
    gains = np.concatenate([np.full(len(part), gain) for part, gain in parts])
    entropy, lagged, true, filtered = 2.0, 0.0, [], []
    for step, output in enumerate(outputs):
        if step:
            lagged += ((outputs[step - 2] if step >= 2 else 0.0) - lagged) / LAG
            entropy += drift + gains[step] * lagged
        plant.observe(entropy + noise * rng.standard_normal(), noise)
        plant.acted(output)
        true.append(entropy)
        filtered.append(plant.entropy)
    return plant, np.array(true), np.array(filtered)


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_the_filtered_entropy_is_much_closer_to_the_truth_than_the_measured_one(noise: float) -> None:
    _, true, filtered = measured((SWING, GAIN), (STILL, GAIN), noise=noise)
    assert np.sqrt(np.mean((filtered - true)[40:] ** 2)) < 0.55 * noise


def test_an_exact_measurement_is_not_filtered() -> None:
    plant = fresh()
    for entropy in (0.5, 0.53, 0.2):
        plant.observe(entropy, 0.0)
        assert plant.entropy == pytest.approx(entropy)


def test_the_larger_the_error_of_a_measurement_is_the_less_it_counts() -> None:
    moved = []
    for error in (math.nan, 0.0, 0.003, 0.03):
        plant = fresh()
        for _ in range(30):
            plant.observe(0.5, 0.01)
        plant.observe(0.6, error)
        moved.append(plant.entropy - 0.5)
    assert moved[0] == moved[1] == pytest.approx(0.1)
    assert moved[1] > moved[2] > 2 * moved[3] > 0


@pytest.mark.parametrize("gain", [0.004, 0.016, 0.05])
def test_without_noise_the_bound_is_nearly_the_gain_whatever_the_drift(gain: float) -> None:
    assert 0.85 * gain - 0.001 < measured((SWING, gain))[0].gain_at_least < 1.01 * gain


def test_with_noise_a_swinging_entropy_bounds_the_gain_from_below() -> None:
    assert 0.02 < measured((SWING, 0.04), noise=0.012)[0].gain_at_least < 0.04


def test_an_output_that_hardly_moves_bounds_nothing() -> None:
    still = 0.02 * np.random.default_rng(1).standard_normal(120)
    assert measured((still, 0.04), noise=0.012)[0].gain_at_least < 0.01


def test_before_a_measurement_little_is_claimed() -> None:
    assert fresh().gain_at_least < 0


def test_what_a_swing_taught_is_kept_while_nothing_moves() -> None:
    then = measured((SWING, 0.05), noise=0.012)[0].gain_at_least
    later = measured((SWING, 0.05), (STILL, 0.05), noise=0.012)[0].gain_at_least
    assert later > 0.9 * then > 0.03


@pytest.mark.parametrize(("before", "after"), [(0.02, 0.05), (0.05, 0.02)])
def test_another_swing_teaches_another_gain(before: float, after: float) -> None:
    longer = np.sin(np.arange(240) / 4)
    plant, _, _ = measured((longer, before), (STILL, after), (longer, after), noise=0.012)
    assert plant.gain_at_least == pytest.approx(after, rel=0.35)


def test_a_gain_that_is_known_is_not_measured_and_measuring_can_begin_later() -> None:
    known = fresh(memory=0)
    for step in range(50):
        known.observe(0.5 + 0.1 * math.sin(step / 4), 0.01)
        known.acted(math.sin(step / 4))
    assert known.gain_at_least == GAIN
    measuring = fresh()
    measuring.restore(known.state())
    assert (measuring.entropy, measuring.gain_at_least) == (known.entropy, fresh().gain_at_least)
    measuring.observe(0.5, 0.01)
    again = fresh(memory=0)
    again.restore(measuring.state())
    assert again.gain_at_least == GAIN
