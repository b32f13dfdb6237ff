"""The two roles of generators, which sample at the base and at the adaptive temperature; the size of a group."""

from __future__ import annotations

from typing import Literal

Role = Literal["base", "adaptive"]

MOST_ROLLOUTS = 1024
"""rollouts of one group"""
