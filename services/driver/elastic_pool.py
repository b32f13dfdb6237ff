"""Generators that come and go with the nodes of the cluster: autoscaling, spot nodes.

A run begins with one generator of each role. The others join when a node has room for them, at the newest policy
version; one whose node is lost waits for room again, which no bound of restarts counts. A role without any generator
takes precedence: no other role asks for room meanwhile, and if none is found one gives way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from services.driver.generator_pool import GeneratorPool, Member, cause_of
from services.driver.placement import GeneratorPlacement
from services.generation.spec import GeneratorSpec
from trainer.errors import ScopeError

MAKE_ROOM_SECONDS = 30.0
"""A role waits this long for room before a generator of another role gives way."""
NODE_NEWS_SECONDS = 60.0
"""Ray notices after some failed health checks that a node is gone; until then its generators only do not answer."""


@dataclass
class _Waiting:
    """A generator without a place, or with one that is asked for."""

    spec: GeneratorSpec
    in_a_row: int
    since: float
    place: GeneratorPlacement | None = None


class ElasticPool(GeneratorPool):
    """As many of the wanted generators as there is room for."""

    def __init__(self, specs: Sequence[GeneratorSpec]) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._places: dict[str, GeneratorPlacement] = {}
        self._silent: dict[str, tuple[float, str]] = {}
        self._roles = tuple(dict.fromkeys(spec.role for spec in specs))
        # One of each role first: room is granted in the order in which it is asked for.
        super().__init__(sorted(specs, key=lambda spec: spec.index))

    def wait_ready(self, still_wanted: Callable[[], None]) -> None:
        """Wait until an engine of each role runs. Raises ScopeError when one does not start, or finds no room."""
        deadline = time.monotonic() + self._config.start_timeout_seconds
        while missing := self._roles_without_member():
            still_wanted()
            if time.monotonic() > deadline:
                raise ScopeError(
                    f"no node had room for a generator of each role ({' and '.join(missing)}) within "
                    f"generators.start_timeout_seconds={self._config.start_timeout_seconds:g}. Add nodes, lower what "
                    "a generator takes (generators.cpus_per_generator, gpus_per_generator), or raise the timeout."
                )
            self._admit()
            time.sleep(0.2)
        super().wait_ready(still_wanted)

    def supervise(self) -> list[str]:
        """Look after those that are there, take in those that find room, see that each role has one."""
        notes = super().supervise()
        notes += self._make_room()
        self._admit()
        return notes

    def stop(self, timeout: float = 20.0) -> None:
        """Also ask for nothing any more, or the cluster would grow for a run that ends."""
        for waiting in self._waiting.values():
            if waiting.place is not None:
                waiting.place.free()
        super().stop(timeout)
        for place in self._places.values():
            place.free()

    def _open(self, spec: GeneratorSpec, in_a_row: int = 0) -> None:
        if spec.index > 0:
            # The learner sends it the newest weights, whatever version the run began with.
            spec = replace(spec, version=None)
        self._waiting[spec.generator_id] = _Waiting(spec, in_a_row, time.monotonic())

    def _close(self, member: Member) -> None:
        super()._close(member)
        self._places.pop(member.spec.generator_id).free()

    def _lost_its_node(self, member: Member) -> bool:
        return self._places[member.spec.generator_id].lost

    def _look_after(self, name: str) -> str | None:
        if name not in self._silent:
            return super()._look_after(name)
        since, reason = self._silent[name]
        if not self._lost_its_node(self._members[name]) and time.monotonic() - since < NODE_NEWS_SECONDS:
            return None
        del self._silent[name]
        return self._restart(name, reason)

    def _ended(self, name: str, error: RayActorError | RayTaskError) -> str | None:
        if not isinstance(error, ActorUnavailableError):
            return super()._ended(name, error)
        self._silent[name] = time.monotonic(), cause_of(error)
        return f"{name} does not answer"

    def _admit(self) -> None:
        """Ask for places, and launch a generator in each that was granted."""
        missing = self._roles_without_member()
        for name, waiting in list(self._waiting.items()):
            if missing and waiting.spec.role not in missing:
                if waiting.place is not None:
                    waiting.place.free()
                    waiting.place = None
                continue
            if waiting.place is None:
                waiting.place = GeneratorPlacement(self._config)
            if waiting.place.granted:
                del self._waiting[name]
                self._places[name] = waiting.place
                self._launch(waiting.spec, waiting.in_a_row, **waiting.place.options())

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
            return [f"{name} gives way to a generator of the role {role}, which has none"]
        return []

    def _by_role(self) -> Counter[str]:
        return Counter(member.spec.role for member in self._members.values())

    def _roles_without_member(self) -> list[str]:
        there = self._by_role()
        return [role for role in self._roles if not there[role]]
