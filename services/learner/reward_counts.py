"""Counts of a step's base groups by their rewards, for its record."""

from __future__ import annotations

from collections.abc import Iterable

from trainer.rollouts.rewards import FULL_REWARD
from trainer.rollouts.trajectory import Group


def reward_counts(groups: Iterable[Group]) -> dict[str, int]:
    """Fields of a step record: base groups, and those whose scored rollouts all have no reward, or all the full one."""
    base = [[t.reward for t in group.trajectories if t.scored] for group in groups if group.role == "base"]
    return {
        "base_groups": len(base),
        "failed_groups": sum(len(rewards) > 0 and max(rewards) <= 0 for rewards in base),
        "solved_groups": sum(len(rewards) > 0 and min(rewards) >= FULL_REWARD for rewards in base),
    }
