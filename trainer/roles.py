"""The two roles of generators: they sample at the base and at the adaptive temperature."""

from __future__ import annotations

from typing import Literal

Role = Literal["base", "adaptive"]

MOST_ROLLOUTS = 1024
"""rollouts of one group"""
