"""Weight transfer, learner side: publish a policy version to every generator while they work.

A version goes through Ray's object store, serialised and put there once; or, with `weights.transport=collective`, by
one broadcast to all generators that run a version of this learner, and through the object store to those that begin,
or that a broadcast failed to reach. Each is told to load it; nobody waits for the answers, which `poll` collects. A
generator that lags (restarted, or busy loading) is sent the newest version only. One that fails to load or does not
answer in time is killed, so that the driver starts another in its place: none is ever left on an old version
unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from torch import Tensor

from services.run.ids import actor_namespace
from services.weights.broadcast import WeightBroadcast
from services.weights.probe import Probe
from services.weights.process_group import TransferError
from services.weights.serialization import packed
from trainer.rollouts.trajectory import PolicyVersion

LAST_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class LoadReport:
    """How one generator's load ended. `error` is empty when it succeeded."""

    generator_id: str
    version: PolicyVersion
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class _Published:
    version: PolicyVersion
    weights: dict[str, Tensor]
    probe: Probe

    @cached_property
    def blob(self) -> ray.ObjectRef:
        return ray.put(packed(self.weights))


@dataclass(frozen=True)
class _Push:
    handle: ActorHandle
    answer: ray.ObjectRef
    version: PolicyVersion
    patience: float
    deadline: float


class WeightPublisher:
    """Sends policy versions to the generators named `generator_ids`.

    timeout_seconds: for one load. start_seconds: what a generator that has not answered yet may take besides, since
    it answers its first load only once its engine has started. broadcast: None sends through the object store only.
    """

    def __init__(
        self,
        run_id: str,
        generator_ids: Sequence[str],
        *,
        timeout_seconds: float,
        start_seconds: float,
        broadcast: WeightBroadcast | None = None,
    ) -> None:
        self._namespace = actor_namespace(run_id)
        self._generator_ids = tuple(generator_ids)
        self._timeout, self._start_seconds = timeout_seconds, start_seconds
        self._broadcast = broadcast
        self._newest: _Published | None = None
        self._pushes: dict[str, _Push] = {}
        self._confirmed: dict[str, tuple[str, PolicyVersion]] = {}
        self._unreached: set[str] = set()

    def publish(self, version: PolicyVersion, weights: dict[str, Tensor], probe: Probe) -> int:
        """Make `version` the newest and start sending it; returns its size in bytes. `weights` are not to change."""
        self._newest = _Published(version, weights, probe)
        self._send()
        return sum(tensor.nbytes for tensor in weights.values())

    def poll(self) -> list[LoadReport]:
        """Collect finished loads, and send the newest version to whoever lacks it."""
        reports = [report for name in list(self._pushes) if (report := self._collect(name)) is not None]
        self._send()
        return reports

    def settled(self) -> bool:
        """True when every generator that can be reached runs the newest version."""
        return not self._pushes

    def close(self) -> None:
        """Send no more."""
        if self._broadcast is not None:
            self._broadcast.close()

    def _send(self) -> None:
        newest = self._newest
        if newest is None:
            return
        handles = {name: handle for name in self._generator_ids if (handle := self._handle(name)) is not None}
        started = {n: h for n, h in handles.items() if self._confirmed.get(n, ("",))[0] == h._actor_id.hex()}
        behind = {
            name: handle
            for name, handle in handles.items()
            if name not in self._pushes
            and not (name in started and self._confirmed[name][1] == newest.version)
        }
        reached = started.keys() - self._unreached if self._broadcast is not None else set[str]()
        alone = {name: handle for name, handle in behind.items() if name not in reached}
        for name, handle in alone.items():
            patience = self._timeout if name in started else self._timeout + self._start_seconds
            self._push(name, handle, handle.load.remote(newest.version, newest.blob, newest.probe), patience)
        together = {name: handle for name, handle in behind.items() if name in reached}
        # One broadcast for all of them: those that are done with the last one wait for those that are not.
        if self._broadcast is not None and together and not reached & self._pushes.keys():
            answers = self._broadcast.send(together, newest.version, newest.weights, newest.probe)
            for name, answer in answers.items():
                self._push(name, together[name], answer, self._timeout)

    def _handle(self, name: str) -> ActorHandle | None:
        try:
            return ray.get_actor(name, namespace=self._namespace)
        except ValueError:
            return None

    def _push(self, name: str, handle: ActorHandle, answer: ray.ObjectRef, patience: float) -> None:
        assert self._newest is not None
        deadline = time.monotonic() + patience
        self._pushes[name] = _Push(handle, answer, self._newest.version, patience, deadline)

    def _collect(self, name: str) -> LoadReport | None:
        push = self._pushes[name]
        late = time.monotonic() > push.deadline
        # A learner that was frozen has the answer at its door, but has not taken it in yet.
        done, _ = ray.wait([push.answer], timeout=LAST_LOOK_SECONDS if late else 0)
        if not done:
            if not late:
                return None
            return self._replace(name, push, f"no answer within {push.patience:g} s")
        try:
            seconds = ray.get(push.answer)
        except RayActorError as error:
            self._forget(name)
            return LoadReport(name, push.version, 0.0, f"died: {type(error).__name__}")
        except RayTaskError as error:
            if not isinstance(error.cause, TransferError):
                return self._replace(name, push, str(error.cause))
            self._forget(name)
            self._unreached.add(name)
            return LoadReport(name, push.version, 0.0, str(error.cause))
        del self._pushes[name]
        self._unreached.discard(name)
        self._confirmed[name] = (push.handle._actor_id.hex(), push.version)
        return LoadReport(name, push.version, seconds)

    def _replace(self, name: str, push: _Push, error: str) -> LoadReport:
        ray.kill(push.handle)
        self._forget(name)
        return LoadReport(name, push.version, 0.0, error)

    def _forget(self, name: str) -> None:
        """The push, which failed."""
        del self._pushes[name]
        if self._broadcast is not None:
            self._broadcast.leave()
