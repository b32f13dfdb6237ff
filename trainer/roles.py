"""The roles of generators, which sample at the base or the adaptive temperature, and the largest sizes of a group."""

from __future__ import annotations

from typing import Literal

Role = Literal["base", "adaptive"]

MOST_ROLLOUTS = 1024
"""most rollouts per group"""
MOST_COMPONENTS = 16
"""largest number of components of one reward"""
