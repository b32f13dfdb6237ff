"""A placement group that reserves the resources of one generator before the generator itself is started.

Without it, a generator that no node has resources for would be an actor that never answers. A placement group waits for
resources by itself, and makes Ray's autoscaler add a node.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainer.config import GeneratorConfig


class GeneratorPlacement:
    """A placement group with one bundle: the resources of a generator."""

    def __init__(self, config: GeneratorConfig) -> None:
        bundle: dict[str, float] = {"CPU": config.cpus_per_generator}
        if config.gpus_per_generator:
            bundle["GPU"] = config.gpus_per_generator
        if config.ray_resource:
            bundle[config.ray_resource] = 1
        self._group = placement_group([bundle])
        self._node: str | None = None

    @property
    def ready(self) -> bool:
        """Whether a node has reserved the resources."""
        if self._node is None and self._group.wait(timeout_seconds=0):
            self._node = placement_group_table(self._group)["bundles_to_node_id"][0]
        return self._node is not None

    @property
    def lost(self) -> bool:
        """Whether the node that reserved the resources has left the cluster, as far as Ray knows."""
        return self._node is not None and not any(
            node["NodeID"] == self._node and node["Alive"] for node in ray.nodes()
        )

    def actor_options(self) -> dict[str, Any]:
        """Ray options that place an actor in this placement group."""
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, 0)}

    def remove(self) -> None:
        """Release the resources, or cancel the request for them. Ray kills an actor in the group."""
        remove_placement_group(self._group)
