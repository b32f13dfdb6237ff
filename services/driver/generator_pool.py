"""The run's generators: starts them together, restarts those that end, and evaluates with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from services.generation.generator import GeneratorActor
from services.generation.spec import GeneratorSpec
from services.generation.strict_generator import StrictGeneratorActor
from services.inference.environment import engine_environment
from services.online_eval.jobs import ResponseCounts
from services.run.ids import actor_namespace
from trainer.errors import ScopeError

HEALTHY_SECONDS = 600.0
"""A generator that ran for this long before it ended has its count of restarts reset."""

STOP_SECONDS = 3.0
"""how long generators may take to finish what they are sending when the run ends"""


@dataclass
class Member:
    """A generator that has been started."""

    spec: GeneratorSpec
    handle: Any
    call: ray.ObjectRef
    """the call under way: `start`, then `run`"""
    deadline: float
    """time by which `start` must have ended, seconds on the monotonic clock"""
    in_a_row: int
    """consecutive restarts, without `HEALTHY_SECONDS` of work between them"""
    ready: bool = False
    ready_at: float = 0.0


class GeneratorPool:
    """Owns the generators' Ray actors, which end with this process."""

    def __init__(self, specs: Sequence[GeneratorSpec]) -> None:
        self._config = specs[0].config.generators
        self._members: dict[str, Member] = {}
        for spec in specs:
            self._open(spec)

    def wait_ready(self, still_wanted: Callable[[], None]) -> None:
        """Wait until every engine runs. Raises ScopeError with the engine's reason when one does not start.

        still_wanted: called about once a second; an exception that it raises ends the wait.
        """
        for member in self._members.values():
            while not ray.wait([member.call], timeout=1.0)[0]:
                still_wanted()
                if time.monotonic() > member.deadline:
                    raise ScopeError(
                        f"{member.spec.generator_id} did not start within generators.start_timeout_seconds="
                        f"{self._config.start_timeout_seconds:g}. Raise it, or read the log in the run's logs/ray."
                    )
            try:
                ray.get(member.call)
            except (RayActorError, RayTaskError) as error:
                raise ScopeError(f"{member.spec.generator_id} could not start: {cause_of(error)}") from error
            member.ready, member.ready_at = True, time.monotonic()

    @property
    def readiness(self) -> str:
        """How many of the engines run, while they start: `1 of 2 ready`."""
        calls = [member.call for member in self._members.values()]
        ready = ray.wait(calls, num_returns=len(calls), timeout=0)[0] if calls else []
        return f"{len(ready)} of {len(calls)} ready"

    def run(self) -> None:
        """Let every ready generator produce groups; the others begin once they are ready."""
        for member in self._members.values():
            if member.ready:
                member.call = member.handle.run.remote()

    def supervise(self) -> list[str]:
        """Restart generators that ended; returns a message about each. Call it about once a second.

        Raises ScopeError when one ended more than `generators.max_restarts` times in a row.
        """
        return [text for name in list(self._members) if (text := self._check(name)) is not None]

    def evaluate(self, problems: int, samples: int, temperature: float) -> list[ResponseCounts]:
        """Count the responses to each of the first `problems` held-out problems, divided among all generators.

        The problems of a generator that ends go to the others. Raises ScopeError when none is left.
        """
        found, left = [ResponseCounts(0, 0)] * problems, list(range(problems))
        members, reason = list(self._members.values()), ""
        while left:
            if not members:
                raise ScopeError(f"every generator ended during the evaluation; the last one: {reason}")
            calls = [
                (member, share, member.handle.evaluate.remote(share, samples, temperature))
                for i, member in enumerate(members)
                if (share := left[i :: len(members)])
            ]
            left = []
            for member, share, answer in calls:
                try:
                    counts = ray.get(answer)
                except (RayActorError, RayTaskError) as error:
                    members.remove(member)
                    left += share
                    reason = cause_of(error)
                else:
                    for index, count in zip(share, counts, strict=True):
                        found[index] = count
        return found

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Let the generators finish what they are sending, then end them. timeout: seconds, for all of them."""
        deadline = time.monotonic() + timeout
        members = [member for member in self._members.values() if member.ready]
        stops = [member.handle.stop.remote() for member in members]
        for calls in filter(None, (stops, [member.call for member in members])):
            ray.wait(calls, num_returns=len(calls), timeout=max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the generators and their engines at once. An engine has nothing to save."""
        for member in self._members.values():
            ray.kill(member.handle)

    def _open(self, spec: GeneratorSpec, in_a_row: int = 0) -> None:
        """Start a generator, now or once it has resources."""
        self._launch(spec, in_a_row)

    def _close(self, member: Member) -> None:
        """Kill a generator that has been removed from the members."""
        ray.kill(member.handle)

    def _lost_its_node(self, member: Member) -> bool:
        """Whether it ended because its node was lost, which does not count as a restart."""
        return False

    def _launch(self, spec: GeneratorSpec, in_a_row: int, **placement: Any) -> None:
        actor = StrictGeneratorActor if spec.config.determinism.strict else GeneratorActor
        handle = actor.options(
            name=spec.generator_id,
            namespace=actor_namespace(spec.run_id),
            num_cpus=self._config.cpus_per_generator,
            num_gpus=self._config.gpus_per_generator,
            resources={self._config.ray_resource: 1} if self._config.ray_resource else None,
            runtime_env={"env_vars": engine_environment(spec.config)},
            max_concurrency=1000,
            **placement,
        ).remote(spec)
        deadline = time.monotonic() + self._config.start_timeout_seconds
        self._members[spec.generator_id] = Member(spec, handle, handle.start.remote(), deadline, in_a_row)

    def _check(self, name: str) -> str | None:
        member = self._members[name]
        done, _ = ray.wait([member.call], timeout=0)
        if not done:
            if member.ready or time.monotonic() < member.deadline:
                return None
            return self._restart(name, "it did not start in time")
        try:
            ray.get(member.call)
        except (RayActorError, RayTaskError) as error:
            return self._ended(name, error)
        if member.ready:
            return None
        member.ready, member.ready_at = True, time.monotonic()
        member.call = member.handle.run.remote()
        return f"{name} {'is back' if member.spec.restarts else 'joined'}"

    def _ended(self, name: str, error: RayActorError | RayTaskError) -> str | None:
        """Handle a generator whose call failed; returns a message."""
        return self._restart(name, cause_of(error))

    def _restart(self, name: str, reason: str) -> str:
        member, allowed = self._members.pop(name), self._config.max_restarts
        lost = self._lost_its_node(member)
        self._close(member)
        # It leases nothing until the learner has sent it the newest weights.
        spec = replace(member.spec, version=None, restarts=member.spec.restarts + 1)
        if lost:
            self._open(spec)
            return f"the node of {name} was lost; it restarts on another node"
        healthy = member.ready and time.monotonic() - member.ready_at > HEALTHY_SECONDS
        in_a_row = 1 if healthy else member.in_a_row + 1
        if in_a_row > allowed:
            raise ScopeError(f"{name} ended again after generators.max_restarts={allowed} restarts: {reason}")
        self._open(spec, in_a_row)
        return f"{name} ended and is restarted ({in_a_row} of {allowed}): {reason}"


def cause_of(error: RayActorError | RayTaskError) -> str:
    """The type of the error that ended a call, and the first line of its message."""
    cause = getattr(error, "cause", None) or error
    first = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {first[0] if first else 'no message'}"
