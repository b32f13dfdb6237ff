"""Publishes policy versions from the learner to every generator while they sample.

A version is serialized and put into Ray's object store once. With `weights.transport=collective` it is broadcast to the
generators that already run a version of this learner; those that have just started, or that a broadcast did not reach,
load it from the object store. Nothing waits for the generators: `poll` collects their answers. A generator that lags
(restarted, or still loading) is sent the newest version only. One that fails to load or does not answer in time is
killed and the driver replaces it, so no generator keeps sampling from an old version unnoticed.
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
from services.weights.serialization import serialize
from trainer.rollouts.trajectory import PolicyVersion

LAST_LOOK_SECONDS = 2.0
"""How long an answer is waited for once its deadline has passed."""


@dataclass(frozen=True)
class LoadReport:
    """The outcome of one generator's load. `error` is empty when it succeeded."""

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
    def payload(self) -> ray.ObjectRef:
        return ray.put(serialize(self.weights))


@dataclass(frozen=True)
class _Push:
    handle: ActorHandle
    answer: ray.ObjectRef
    version: PolicyVersion
    timeout: float
    deadline: float


class WeightPublisher:
    """Sends policy versions to the generators named `generator_ids`.

    timeout_seconds: for one load. start_seconds: added for a generator's first load, which it answers only once its
    engine has started. broadcast: None to send through the object store only.
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
        """loads that have not been answered yet, by generator"""
        self._confirmed: dict[str, tuple[str, PolicyVersion]] = {}
        """actor id and version of the newest successful load, by generator"""
        self._unreached: set[str] = set()
        """generators that the newest broadcast did not reach"""

    def publish(self, version: PolicyVersion, weights: dict[str, Tensor], probe: Probe) -> int:
        """Make `version` the newest and start sending it; returns its size in bytes.

        weights: by Hugging Face name; must not change afterwards.
        """
        self._newest = _Published(version, weights, probe)
        self._send()
        return sum(tensor.nbytes for tensor in weights.values())

    def poll(self) -> list[LoadReport]:
        """Collect the loads that have ended, and send the newest version to the generators that lack it."""
        reports = [report for name in list(self._pushes) if (report := self._collect(name)) is not None]
        self._send()
        return reports

    def settled(self) -> bool:
        """Whether every generator that can be reached runs the newest version."""
        return not self._pushes

    def close(self) -> None:
        """Stop sending."""
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
        broadcast_to = started.keys() - self._unreached if self._broadcast is not None else set[str]()
        for name, handle in behind.items():
            if name not in broadcast_to:
                timeout = self._timeout if name in started else self._timeout + self._start_seconds
                answer = handle.load.remote(newest.version, newest.payload, newest.probe)
                self._push(name, handle, answer, timeout)
        together = {name: handle for name, handle in behind.items() if name in broadcast_to}
        # One broadcast reaches all of them, so it waits until each has finished the previous load.
        if self._broadcast is not None and together and not broadcast_to & self._pushes.keys():
            answers = self._broadcast.send(together, newest.version, newest.weights, newest.probe)
            for name, answer in answers.items():
                self._push(name, together[name], answer, self._timeout)

    def _handle(self, name: str) -> ActorHandle | None:
        try:
            return ray.get_actor(name, namespace=self._namespace)
        except ValueError:
            return None

    def _push(self, name: str, handle: ActorHandle, answer: ray.ObjectRef, timeout: float) -> None:
        assert self._newest is not None
        deadline = time.monotonic() + timeout
        self._pushes[name] = _Push(handle, answer, self._newest.version, timeout, deadline)

    def _collect(self, name: str) -> LoadReport | None:
        push = self._pushes[name]
        late = time.monotonic() > push.deadline
        # A learner that was frozen may have the answer without having processed it yet.
        done, _ = ray.wait([push.answer], timeout=LAST_LOOK_SECONDS if late else 0)
        if not done:
            if not late:
                return None
            return self._kill(name, push, f"no answer within {push.timeout:g} s")
        try:
            seconds = ray.get(push.answer)
        except RayActorError as error:
            self._drop(name)
            return LoadReport(name, push.version, 0.0, f"died: {type(error).__name__}")
        except RayTaskError as error:
            if not isinstance(error.cause, TransferError):
                return self._kill(name, push, str(error.cause))
            self._drop(name)
            self._unreached.add(name)
            return LoadReport(name, push.version, 0.0, str(error.cause))
        del self._pushes[name]
        self._unreached.discard(name)
        self._confirmed[name] = (push.handle._actor_id.hex(), push.version)
        return LoadReport(name, push.version, seconds)

    def _kill(self, name: str, push: _Push, error: str) -> LoadReport:
        ray.kill(push.handle)
        self._drop(name)
        return LoadReport(name, push.version, 0.0, error)

    def _drop(self, name: str) -> None:
        """Drop a push that failed."""
        del self._pushes[name]
        if self._broadcast is not None:
            self._broadcast.leave()
