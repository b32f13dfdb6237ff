"""Room for one generator on some node of the cluster, asked of Ray ahead of the generator itself.

A generator that no node has room for would exist as an actor that never answers. A placement group instead waits by
itself, and makes Ray's autoscaler add a node for it.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainer.config import GeneratorConfig


class GeneratorPlacement:
    """A request for a generator's resources, granted sooner or later."""

    def __init__(self, config: GeneratorConfig) -> None:
        bundle: dict[str, float] = {"CPU": config.cpus_per_generator}
        if config.gpus_per_generator:
            bundle["GPU"] = config.gpus_per_generator
        if config.ray_resource:
            bundle[config.ray_resource] = 1
        self._group = placement_group([bundle])
        self._node: str | None = None

    @property
    def granted(self) -> bool:
        """Whether a node holds the resources; asks Ray until it does."""
        if self._node is None and self._group.wait(timeout_seconds=0):
            self._node = placement_group_table(self._group)["bundles_to_node_id"][0]
        return self._node is not None

    @property
    def lost(self) -> bool:
        """Whether the node that held them is gone, as far as Ray knows."""
        return self._node is not None and not any(
            node["NodeID"] == self._node and node["Alive"] for node in ray.nodes()
        )

    def options(self) -> dict[str, Any]:
        """Of an actor that shall live in it."""
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, 0)}

    def free(self) -> None:
        """Give the resources back, or stop asking for them; an actor in it is killed."""
        remove_placement_group(self._group)
