"""Advantages within a group: exactly 0 for equal rewards, finite and ordered for any others."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.roles import MOST_ROLLOUTS
from trainer.rollouts.rewards import group_advantages, is_uniform

EPSILON = 1e-6
values = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, MOST_ROLLOUTS])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, 0.7, 1.0, -2.3, 1e300, 5e-324])
@pytest.mark.parametrize("standardized", [True, False])
def test_equal_rewards_have_an_advantage_of_exactly_0(count: int, reward: float, standardized: bool) -> None:
    rewards = np.full(count, reward)
    assert is_uniform(rewards.tolist())
    assert not group_advantages(rewards, 1e-12, standardized=standardized).any()


@given(st.lists(values, min_size=1, max_size=9), st.sampled_from([1e-6, 1e-12, 1e-300]))
def test_any_finite_rewards_give_finite_advantages_in_their_order(
    rewards: list[float], epsilon: float
) -> None:
    advantages = group_advantages(np.array(rewards), epsilon)
    assert np.isfinite(advantages).all()
    assert np.abs(advantages).max() <= math.sqrt(len(rewards) - 1) * (1 + 1e-9)
    assert (np.diff(advantages[np.argsort(rewards, stable=True)]) >= 0).all()


@given(
    st.lists(st.sampled_from([0.1, math.nextafter(0.1, 1), 0.3, 0.1 + 1e-9, 1.0]), min_size=1, max_size=12)
)
def test_advantages_are_those_of_exact_arithmetic(rewards: list[float]) -> None:
    exact = [Fraction(reward) for reward in rewards]
    mean = sum(exact) / len(exact)
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in exact) / len(exact))
    expected = [float(reward - mean) / (deviation + EPSILON) for reward in exact]
    np.testing.assert_allclose(group_advantages(np.array(rewards), EPSILON), expected, rtol=1e-9, atol=1e-15)
    plain = [float(reward - mean) for reward in exact]
    found = group_advantages(np.array(rewards), EPSILON, standardized=False)
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-15)


def test_rewards_that_differ_by_rounding_alone_hardly_move_the_policy() -> None:
    rewards = np.array([0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2])
    assert not is_uniform(rewards.tolist())
    assert 0 < np.abs(group_advantages(rewards, EPSILON)).max() < 1e-9


def test_the_largest_group_with_one_success_has_the_largest_advantage() -> None:
    rewards = np.zeros(MOST_ROLLOUTS)
    rewards[7] = 1.0
    advantages = group_advantages(rewards, 1e-12)
    assert advantages[7] == pytest.approx(math.sqrt(MOST_ROLLOUTS - 1), rel=1e-9)
    assert advantages.sum() == pytest.approx(0.0, abs=1e-9)
