"""Generators that join and leave with nodes: a Ray cluster of several virtual nodes, real actors instead of engines."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from services.access.ray_token import private_ray
from services.driver.elastic_pool import ElasticPool
from services.generation.spec import GeneratorSpec
from services.redis.access import RedisAccess
from tests.support.generation import generator_stub
from tests.support.generation.generator_stub import Stub
from trainer.config import RunConfig
from trainer.errors import ScopeError
from trainer.rollouts.trajectory import PolicyVersion

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(240)]

GENERATORS = {
    "base": 3,
    "adaptive": 1,
    "elastic": True,
    "max_restarts": 0,
    "ray_resource": "engine",
    "cpus_per_generator": 0.1,
    "start_timeout_seconds": 60,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head node without room for generators."""
    cloudpickle.register_pickle_by_value(generator_stub)
    with private_ray(tmp_path_factory.mktemp("ray") / "token"):
        quick = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
        }
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": quick},
        )
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


AddNode = Callable[[int], Any]


@pytest.fixture
def add_node(cluster: Cluster) -> Iterator[AddNode]:
    """Adds a node with room for that many generators; all nodes are removed at the end."""

    def add(places: int) -> Any:
        return cluster.add_node(num_cpus=1, resources={"engine": places})

    yield add
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)


Start = Callable[..., ElasticPool]


@pytest.fixture
def start(run_id: str, add_node: AddNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("services.driver.generator_pool.GeneratorActor", ray.remote(Stub))
    pools: list[ElasticPool] = []

    def begin(**changed: Any) -> ElasticPool:
        config = RunConfig.model_validate({"generators": GENERATORS | changed, "ray": {"address": "auto"}})
        access, version = RedisAccess("redis://127.0.0.1:1/0"), PolicyVersion(0, 0)
        specs = [
            GeneratorSpec(run_id, role, i, config, "", access, version)
            for role in config.roles
            for i in range(getattr(config.generators, role))
        ]
        pool = ElasticPool(specs)
        pools.append(pool)
        pool.wait_ready(lambda: None)
        pool.run()
        return pool

    yield begin
    for pool in pools:
        pool.stop(timeout=5)
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values()), (
        "resources are still requested"
    )


def supervised(pool: ElasticPool, until: Callable[[list[str]], Any]) -> list[str]:
    """Supervise until the notes match."""
    notes: list[str] = []
    deadline = time.monotonic() + 60
    while not until(notes):
        assert time.monotonic() < deadline, (notes, sorted(pool._members))
        notes += pool.supervise()
        time.sleep(0.1)
    return notes


def at_work(pool: ElasticPool) -> set[str]:
    return {name for name, member in pool._members.items() if member.ready}


def test_one_of_each_role_begins_and_others_come_and_go_with_nodes(
    start: Start, add_node: AddNode, cluster: Cluster
) -> None:
    add_node(2)
    pool = start()
    assert at_work(pool) == {"base-generator-0", "adaptive-generator-0"}
    assert pool._members["base-generator-0"].spec.version == PolicyVersion(0, 0)

    node = add_node(1)
    assert supervised(pool, lambda notes: notes) == ["base-generator-1 joined"]
    assert pool._members["base-generator-1"].spec.version is None, (
        "it must not sample with the initial weights"
    )

    cluster.remove_node(node, allow_graceful=False)
    notes = supervised(pool, lambda notes: "base-generator-1" not in pool._members)
    assert notes[-1] == "the node of base-generator-1 was lost; it restarts on another node"
    assert at_work(pool) == {"base-generator-0", "adaptive-generator-0"}

    add_node(2)
    notes = supervised(pool, lambda notes: len(at_work(pool)) == 4)
    assert sorted(notes) == ["base-generator-1 is back", "base-generator-2 joined"]


def test_a_role_that_lost_its_last_generator_gets_the_place_of_another(
    start: Start, add_node: AddNode, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.driver.elastic_pool.MAKE_ROOM_SECONDS", 0.5)
    first = add_node(2)
    pool = start(base=4)
    add_node(2)
    supervised(pool, lambda notes: len(at_work(pool)) == 4)
    cluster.remove_node(first, allow_graceful=False)
    notes = supervised(pool, lambda notes: any("make room" in note for note in notes))
    assert "the node of adaptive-generator-0 was lost; it restarts on another node" in notes
    assert (
        notes[-1]
        == "base-generator-2 is stopped to make room for a generator of the role adaptive, which has none"
    )
    supervised(pool, lambda notes: at_work(pool) == {"base-generator-1", "adaptive-generator-0"})

    handle = pool._members["base-generator-1"].handle
    os.kill(ray.get(handle.process_id.remote()), signal.SIGKILL)
    with pytest.raises(ScopeError, match=r"base-generator-1 ended again after generators\.max_restarts=0"):
        supervised(pool, lambda notes: notes)


def test_a_run_that_finds_no_room_says_what_it_lacks(start: Start) -> None:
    with pytest.raises(ScopeError, match=r"room for a generator of each role \(base and adaptive\) within"):
        start(base=1, start_timeout_seconds=5)
