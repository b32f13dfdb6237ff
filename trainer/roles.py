"""The roles of generators, which sample at the base or the adaptive temperature, and the largest group size."""

from __future__ import annotations

from typing import Literal

Role = Literal["base", "adaptive"]

MOST_ROLLOUTS = 1024
"""most rollouts per group"""
