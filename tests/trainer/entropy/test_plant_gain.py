"""The estimate of the plant's gain in closed loop."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.entropy_control.plant_gain import FEWEST, SKIPPED, PlantGain

LAG, SMOOTHING = 5.0, 3.0


def measured(outputs: np.ndarray, gain: float, *, drift: float = -0.004, noise: float = 0.0) -> PlantGain:
    """The estimate after moving a plant H' - H = drift + gain * x, where x is the lagged output of two steps before."""
    plant, rng = PlantGain(lag=LAG, smoothing=SMOOTHING, memory=60), np.random.default_rng(3)
    lagged = rate = 0.0
    before = 0.0
    for step, output in enumerate(outputs):
        acting = outputs[step - 2] if step >= 2 else 0.0
        lagged += (acting - lagged) / (1 + LAG)
        error = noise * rng.standard_normal()
        rate += (drift + gain * lagged + error - before - rate) / SMOOTHING
        before = error
        plant.observe(rate, output)
    return plant


SWING = np.sin(np.arange(120) / 4)


@pytest.mark.parametrize("gain", [0.004, 0.016, 0.05])
def test_without_noise_the_bound_is_the_gain_whatever_the_drift(gain: float) -> None:
    assert measured(SWING, gain).at_least == pytest.approx(gain, rel=0.02)


def test_with_noise_a_swinging_entropy_bounds_the_gain_from_below() -> None:
    assert 0.02 < measured(SWING, 0.04, noise=0.012).at_least < 0.04


def test_an_output_that_hardly_moves_bounds_nothing() -> None:
    still = 0.02 * np.random.default_rng(1).standard_normal(120)
    assert measured(still, 0.04, noise=0.012).at_least < 0.01


def test_nothing_is_claimed_before_there_is_enough_to_measure() -> None:
    assert measured(SWING[: SKIPPED + FEWEST - 2], 0.04).at_least == 0.0


def test_a_stronger_plant_is_noticed_when_the_past_is_forgotten() -> None:
    assert measured(np.concatenate([0 * SWING, SWING]), 0.04, noise=0.012).at_least > 0.02
