"""Weight transfer on the learner side, with real Ray actors whose replies a test can delay."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
import torch

from services.run.ids import actor_namespace
from services.weights.broadcast import WeightBroadcast
from services.weights.buckets import from_text
from services.weights.probe import Probe
from services.weights.process_group import Rendezvous, TransferError
from services.weights.publisher import LoadReport, WeightPublisher
from services.weights.receiver import WeightReceiver
from tests.support.local_ray import local_ray
from trainer.rollouts.trajectory import PolicyVersion

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

NAME = "base-generator-0"
OTHER = "adaptive-generator-0"
WEIGHTS = {"w": torch.ones(3)}
PROBE = Probe([1, 2], [-0.5])


@ray.remote
class Receiver:
    """Receives versions as a generator does; each load takes the next number of seconds in `delays`."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self.loaded: list[PolicyVersion] = []
        self.by_broadcast: list[float] = []
        self._receiver = WeightReceiver(torch.device("cpu"))

    async def process_id(self) -> int:
        return os.getpid()

    async def join_weights(self, rendezvous: Rendezvous, rank: int) -> None:
        self._receiver.join(rendezvous, rank)

    async def receive(self, version: PolicyVersion, buckets: str, probe: Probe) -> float:
        self._receiver.receive(from_text(buckets))
        while (state := self._receiver.state()) is None:
            await asyncio.sleep(0.01)
        if state:
            raise TransferError(state)
        self.by_broadcast.append(self._receiver.take()["w"].sum().item())
        return await self.load(version, np.empty(0), probe)

    async def sums(self) -> list[float]:
        return self.by_broadcast

    async def load(self, version: PolicyVersion, payload: np.ndarray, probe: Probe) -> float:
        delay = self._delays.pop(0) if self._delays else 0.0
        await asyncio.sleep(delay)
        self.loaded.append(version)
        return delay

    async def versions(self) -> list[PolicyVersion]:
        return self.loaded


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A local Ray for the module."""
    with local_ray(2):
        yield


def receiver(run_id: str, delays: list[float], name: str = NAME) -> Any:
    options = {"name": name, "namespace": actor_namespace(run_id), "num_cpus": 0}
    return Receiver.options(**options).remote(delays)


def receiver_in_place_of_a_dead_one(run_id: str) -> Any:
    """The name of a dead actor becomes free only some time after its death."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return receiver(run_id, [])
        except ValueError:
            time.sleep(0.1)
    pytest.fail(f"{NAME} is not free")


def poll_until(publisher: WeightPublisher, reports: int, seconds: float = 120) -> list[LoadReport]:
    found: list[LoadReport] = []
    deadline = time.monotonic() + seconds
    while len(found) < reports and time.monotonic() < deadline:
        found += publisher.poll()
        time.sleep(0.05)
    return found


def test_a_generator_that_is_still_starting_is_given_its_start_time_and_not_killed(run_id: str) -> None:
    actor = receiver(run_id, [3.0])
    publisher = WeightPublisher(run_id, [NAME], timeout_seconds=1.0, start_seconds=60.0)
    publisher.publish(PolicyVersion(1, 0), WEIGHTS, PROBE)
    (report,) = poll_until(publisher, 1)
    assert (report.error, report.version) == ("", PolicyVersion(1, 0))
    assert ray.get(actor.versions.remote()) == [PolicyVersion(1, 0)]


def test_a_started_generator_that_does_not_answer_in_time_is_killed_and_named(run_id: str) -> None:
    actor = receiver(run_id, [0.0, 600.0])
    publisher = WeightPublisher(run_id, [NAME], timeout_seconds=1.0, start_seconds=60.0)
    publisher.publish(PolicyVersion(1, 0), WEIGHTS, PROBE)
    poll_until(publisher, 1)
    publisher.publish(PolicyVersion(1, 1), WEIGHTS, PROBE)
    (report,) = poll_until(publisher, 1)
    assert (report.generator_id, report.error) == (NAME, "no answer within 1 s")
    with pytest.raises(ray.exceptions.RayActorError):  # pyright: ignore[reportAttributeAccessIssue]
        ray.get(actor.versions.remote())


def test_a_generator_that_misses_versions_takes_the_newest_only(run_id: str) -> None:
    actor = receiver(run_id, [0.0, 1.5])
    publisher = WeightPublisher(run_id, [NAME], timeout_seconds=20.0, start_seconds=60.0)
    publisher.publish(PolicyVersion(1, 0), WEIGHTS, PROBE)
    poll_until(publisher, 1)
    for step in (1, 2, 3):
        publisher.publish(PolicyVersion(1, step), WEIGHTS, PROBE)
    poll_until(publisher, 2)
    assert publisher.settled()
    assert ray.get(actor.versions.remote()) == [PolicyVersion(1, step) for step in (0, 1, 3)]


def test_a_generator_started_in_the_place_of_a_dead_one_is_sent_the_newest_version(run_id: str) -> None:
    first = receiver(run_id, [])
    publisher = WeightPublisher(run_id, [NAME], timeout_seconds=20.0, start_seconds=60.0)
    publisher.publish(PolicyVersion(1, 4), WEIGHTS, PROBE)
    poll_until(publisher, 1)
    ray.kill(first)
    second = receiver_in_place_of_a_dead_one(run_id)
    (report,) = poll_until(publisher, 1)
    assert report.error == ""
    assert ray.get(second.versions.remote()) == [PolicyVersion(1, 4)]


@pytest.fixture
def broadcasting(run_id: str, request: pytest.FixtureRequest) -> Iterator[WeightPublisher]:
    """A publisher to two generators that waits for a load for the given seconds, and half as long in a broadcast."""
    seconds = float(request.param)
    broadcast = WeightBroadcast(torch.device("cpu"), bucket_bytes=1 << 20, ranks_each=1, seconds=seconds / 2)
    publisher = WeightPublisher(
        run_id, [NAME, OTHER], timeout_seconds=seconds, start_seconds=60.0, broadcast=broadcast
    )
    yield publisher
    publisher.close()


PATIENT = pytest.mark.parametrize("broadcasting", [60], indirect=True)


def publish(publisher: WeightPublisher, step: int, reports: int, seconds: float = 120) -> list[LoadReport]:
    """Publish weights whose sum is three times `step`, and wait for that many reports."""
    publisher.publish(PolicyVersion(1, step), {"w": torch.full((3,), float(step))}, PROBE)
    return poll_until(publisher, reports, seconds)


@PATIENT
def test_a_version_is_broadcast_to_those_that_run_one_already(
    run_id: str, broadcasting: WeightPublisher
) -> None:
    actors = [receiver(run_id, [], name) for name in (NAME, OTHER)]
    for step in range(3):
        assert [r.error for r in publish(broadcasting, step, 2)] == ["", ""]
    for actor in actors:
        assert ray.get(actor.versions.remote()) == [PolicyVersion(1, step) for step in range(3)]
        assert ray.get(actor.sums.remote()) == [3.0, 6.0], "the first version must not be broadcast"


@PATIENT
def test_a_generator_that_begins_is_sent_the_version_by_itself_and_the_next_with_the_others(
    run_id: str, broadcasting: WeightPublisher
) -> None:
    first, other = receiver(run_id, []), receiver(run_id, [], OTHER)
    publish(broadcasting, 0, 2)
    publish(broadcasting, 1, 2)
    ray.kill(first)
    second = receiver_in_place_of_a_dead_one(run_id)
    assert [r.error for r in poll_until(broadcasting, 1)] == [""]
    assert [r.error for r in publish(broadcasting, 2, 2)] == ["", ""]
    assert ray.get(second.sums.remote()) == [6.0]
    assert ray.get(other.sums.remote()) == [3.0, 6.0]
    assert ray.get(second.versions.remote()) == [PolicyVersion(1, 1), PolicyVersion(1, 2)]


@pytest.mark.parametrize("broadcasting", [12], indirect=True)
def test_a_frozen_generator_costs_itself_and_the_others_take_the_version_from_the_store(
    run_id: str, broadcasting: WeightPublisher
) -> None:
    frozen, other = receiver(run_id, []), receiver(run_id, [], OTHER)
    publish(broadcasting, 0, 2)
    publish(broadcasting, 1, 2)
    process: Any = ray.get(frozen.process_id.remote())
    os.kill(process, signal.SIGSTOP)
    reports = publish(broadcasting, 2, 3, seconds=25)
    # On a busy machine the previous version's report may be late.
    reports = [report for report in reports if report.version.step == 2]
    of_other = [report.error for report in reports if report.generator_id == OTHER]
    (of_frozen,) = [report.error for report in reports if report.generator_id == NAME]
    assert of_frozen == "no answer within 12 s"
    # The bytes may have arrived; if not, the generator reports that and loads them from the object store.
    assert of_other == [""] or ("bytes of weights failed" in of_other[0] and of_other[1] == "")
    assert ray.get(other.versions.remote())[-1] == PolicyVersion(1, 2)
    assert [r.error for r in publish(broadcasting, 3, 1)] == [""]
    assert ray.get(other.sums.remote())[-1] == 9.0, "the remaining generator must be alone in a new group"
