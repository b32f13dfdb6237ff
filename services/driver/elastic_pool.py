"""Generators that join and leave with the nodes of the cluster: autoscaling, spot nodes.

A run starts with one generator of each role. The others join when a node has resources for them, at the newest policy
version. A generator whose node is lost waits for resources again; this does not count as a restart. A role without a
generator has priority: meanwhile no other role requests resources, and if none become free, a generator of another role
is stopped to make room.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from services.driver.generator_pool import STOP_SECONDS, GeneratorPool, Member, cause_of
from services.driver.placement import GeneratorPlacement
from services.generation.spec import GeneratorSpec
from trainer.errors import ScopeError

MAKE_ROOM_SECONDS = 30.0
"""How long a role without a generator waits for resources before a generator of another role is stopped."""
NODE_LOSS_SECONDS = 60.0
"""How long a generator that does not answer may be on a lost node: Ray reports the loss after some health checks."""


@dataclass
class _Waiting:
    """A generator that waits for resources. placement: None while its role may not request them."""

    spec: GeneratorSpec
    in_a_row: int
    since: float
    placement: GeneratorPlacement | None = None


class ElasticPool(GeneratorPool):
    """Runs as many of the configured generators as the cluster has resources for."""

    def __init__(self, specs: Sequence[GeneratorSpec]) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._placements: dict[str, GeneratorPlacement] = {}
        self._silent: dict[str, tuple[float, str]] = {}
        self._roles = tuple(dict.fromkeys(spec.role for spec in specs))
        # One of each role first: Ray grants resources in the order of the requests.
        super().__init__(sorted(specs, key=lambda spec: spec.index))

    def wait_ready(self, still_wanted: Callable[[], None]) -> None:
        """Wait until an engine of each role runs. Raises ScopeError when one does not start or finds no resources."""
        deadline = time.monotonic() + self._config.start_timeout_seconds
        while missing := self._roles_without_member():
            still_wanted()
            if time.monotonic() > deadline:
                raise ScopeError(
                    f"no node had room for a generator of each role ({' and '.join(missing)}) within "
                    f"generators.start_timeout_seconds={self._config.start_timeout_seconds:g}. Add nodes, lower what "
                    "a generator takes (generators.cpus_per_generator, gpus_per_generator), or raise the timeout."
                )
            self._start_placed()
            time.sleep(0.2)
        super().wait_ready(still_wanted)

    def supervise(self) -> list[str]:
        """Restart generators that ended, start those that have resources, and keep one generator of each role."""
        messages = super().supervise()
        messages += self._make_room()
        self._start_placed()
        return messages

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop the generators and remove every request for resources, so that the cluster does not scale up."""
        for waiting in self._waiting.values():
            if waiting.placement is not None:
                waiting.placement.remove()
        super().stop(timeout)
        for placement in self._placements.values():
            placement.remove()

    def _open(self, spec: GeneratorSpec, in_a_row: int = 0) -> None:
        if spec.index > 0:
            # The learner sends it the newest weights, whichever version the run started with.
            spec = replace(spec, version=None)
        self._waiting[spec.generator_id] = _Waiting(spec, in_a_row, time.monotonic())

    def _close(self, member: Member) -> None:
        super()._close(member)
        self._placements.pop(member.spec.generator_id).remove()

    def _lost_its_node(self, member: Member) -> bool:
        return self._placements[member.spec.generator_id].lost

    def _check(self, name: str) -> str | None:
        if name not in self._silent:
            return super()._check(name)
        since, reason = self._silent[name]
        if not self._lost_its_node(self._members[name]) and time.monotonic() - since < NODE_LOSS_SECONDS:
            return None
        del self._silent[name]
        return self._restart(name, reason)

    def _ended(self, name: str, error: RayActorError | RayTaskError) -> str | None:
        if not isinstance(error, ActorUnavailableError):
            return super()._ended(name, error)
        self._silent[name] = time.monotonic(), cause_of(error)
        return f"{name} does not answer"

    def _start_placed(self) -> None:
        """Request resources, and start each generator that has them."""
        missing = self._roles_without_member()
        for name, waiting in list(self._waiting.items()):
            if missing and waiting.spec.role not in missing:
                if waiting.placement is not None:
                    waiting.placement.remove()
                    waiting.placement = None
                continue
            if waiting.placement is None:
                waiting.placement = GeneratorPlacement(self._config)
            if waiting.placement.ready:
                del self._waiting[name]
                self._placements[name] = waiting.placement
                self._launch(waiting.spec, waiting.in_a_row, **waiting.placement.actor_options())

    def _make_room(self) -> list[str]:
        now, members = time.monotonic(), self._by_role()
        for role in self._roles_without_member():
            waits = [waiting for waiting in self._waiting.values() if waiting.spec.role == role]
            if not waits or now - min(waiting.since for waiting in waits) < MAKE_ROOM_SECONDS:
                continue
            richest = max(members, key=lambda name: members[name], default=role)
            if members[richest] < 2:
                continue
            name = max(
                (name for name, member in self._members.items() if member.spec.role == richest),
                key=lambda name: self._members[name].spec.index,
            )
            member = self._members.pop(name)
            self._silent.pop(name, None)
            self._close(member)
            self._open(replace(member.spec, restarts=member.spec.restarts + 1), member.in_a_row)
            for waiting in waits:
                waiting.since = now
            return [f"{name} is stopped to make room for a generator of the role {role}, which has none"]
        return []

    def _by_role(self) -> Counter[str]:
        return Counter(member.spec.role for member in self._members.values())

    def _roles_without_member(self) -> list[str]:
        there = self._by_role()
        return [role for role in self._roles if not there[role]]
