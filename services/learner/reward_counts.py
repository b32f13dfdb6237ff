"""Counts of a step's base groups by their rewards, for its record."""

from __future__ import annotations

from collections.abc import Iterable

from trainer.rollouts.trajectory import Group


def reward_counts(groups: Iterable[Group]) -> dict[str, int]:
    """Fields of a step record: base groups, and those whose scored rollouts all have no reward, or are all right."""
    base = [[t for t in group.trajectories if t.scored] for group in groups if group.role == "base"]
    return {
        "base_groups": len(base),
        "failed_groups": sum(
            len(scored) > 0 and not any(t.succeeded or t.reward > 0 for t in scored) for scored in base
        ),
        "solved_groups": sum(len(scored) > 0 and all(t.succeeded for t in scored) for scored in base),
    }
