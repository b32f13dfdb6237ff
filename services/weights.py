"""Weight transfer, learner side: publish a policy version to every generator while they work.

A version is serialised once, put into Ray's object store once, and each generator is told to load it; nobody waits
for the answers, which `poll` collects. A generator that lags (restarted, or busy loading) is sent the newest version
only. One that fails to load or does not answer in time is killed, so that the driver starts another in its place:
none is ever left on an old version unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
import safetensors.torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from torch import Tensor

from services.keys import actor_namespace
from services.probe import Probe
from trainer.trajectory import PolicyVersion

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
    blob: ray.ObjectRef
    probe: Probe


@dataclass(frozen=True)
class _Push:
    handle: ActorHandle
    answer: ray.ObjectRef
    version: PolicyVersion
    patience: float
    deadline: float


def packed(weights: dict[str, Tensor]) -> np.ndarray:
    """uint8[N], safetensors. As an array it is read where it lies in Ray's object store; bytes would be copied out."""
    return np.frombuffer(safetensors.torch.save(weights), dtype=np.uint8)


class WeightPublisher:
    """Sends policy versions to the generators named `generator_ids`.

    timeout_seconds: for one load. start_seconds: what a generator that has not answered yet may take besides, since
    it answers its first load only once its engine has started.
    """

    def __init__(
        self, run_id: str, generator_ids: Sequence[str], *, timeout_seconds: float, start_seconds: float
    ) -> None:
        self._namespace = actor_namespace(run_id)
        self._generator_ids = tuple(generator_ids)
        self._timeout, self._start_seconds = timeout_seconds, start_seconds
        self._newest: _Published | None = None
        self._pushes: dict[str, _Push] = {}
        self._confirmed: dict[str, tuple[str, PolicyVersion]] = {}

    def publish(self, version: PolicyVersion, weights: dict[str, Tensor], probe: Probe) -> int:
        """Make `version` the newest and start sending it; returns its size in bytes."""
        blob = packed(weights)
        self._newest = _Published(version, ray.put(blob), probe)
        self._send()
        return blob.nbytes

    def poll(self) -> list[LoadReport]:
        """Collect finished loads, and send the newest version to whoever lacks it."""
        reports = [report for name in list(self._pushes) if (report := self._collect(name)) is not None]
        self._send()
        return reports

    def settled(self) -> bool:
        """True when every generator that can be reached runs the newest version."""
        return not self._pushes

    def _send(self) -> None:
        if self._newest is None:
            return
        for name in self._generator_ids:
            if name in self._pushes:
                continue
            try:
                handle = ray.get_actor(name, namespace=self._namespace)
            except ValueError:
                continue
            actor, held = self._confirmed.get(name, ("", None))
            started = actor == handle._actor_id.hex()
            if started and held == self._newest.version:
                continue
            patience = self._timeout if started else self._timeout + self._start_seconds
            answer = handle.load.remote(self._newest.version, self._newest.blob, self._newest.probe)
            self._pushes[name] = _Push(
                handle, answer, self._newest.version, patience, time.monotonic() + patience
            )

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
            del self._pushes[name]
            return LoadReport(name, push.version, 0.0, f"died: {type(error).__name__}")
        except RayTaskError as error:
            return self._replace(name, push, str(error.cause))
        del self._pushes[name]
        self._confirmed[name] = (push.handle._actor_id.hex(), push.version)
        return LoadReport(name, push.version, seconds)

    def _replace(self, name: str, push: _Push, error: str) -> LoadReport:
        ray.kill(push.handle)
        del self._pushes[name]
        return LoadReport(name, push.version, 0.0, error)
