"""Weight transfer, learner side, with real Ray actors whose answers a test can delay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
import torch

from services.keys import actor_namespace
from services.probe import Probe
from services.weights import LoadReport, WeightPublisher
from tests.local_ray import local_ray
from trainer.trajectory import PolicyVersion

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

NAME = "base-generator-0"
WEIGHTS = {"w": torch.ones(3)}
PROBE = Probe([1, 2], [-0.5])


@ray.remote
class Receiver:
    """Takes versions as a generator does; each load takes the seconds that are next in `delays`."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self.loaded: list[PolicyVersion] = []

    async def load(self, version: PolicyVersion, blob: np.ndarray, probe: Probe) -> float:
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


def receiver(run_id: str, delays: list[float]) -> Any:
    options = {"name": NAME, "namespace": actor_namespace(run_id), "num_cpus": 0}
    return Receiver.options(**options).remote(delays)


def poll_until(publisher: WeightPublisher, reports: int, seconds: float = 30) -> list[LoadReport]:
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
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            second = receiver(run_id, [])
            break
        except ValueError:
            time.sleep(0.1)
    (report,) = poll_until(publisher, 1)
    assert report.error == ""
    assert ray.get(second.versions.remote()) == [PolicyVersion(1, 4)]
