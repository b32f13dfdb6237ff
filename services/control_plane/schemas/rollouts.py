"""Sampled rollouts. Shared by the server and `services.control_plane.client`."""

from __future__ import annotations

from services.control_plane.schemas.base import Resource
from services.records.sampled_rollouts import SampledRollout


class RolloutView(SampledRollout):
    """One sampled rollout."""

    id: str


class RolloutPage(Resource):
    """Sampled rollouts, newest first."""

    rollouts: list[RolloutView]
    next: str | None
    """`cursor` of the next page, of older entries; null at the end"""
