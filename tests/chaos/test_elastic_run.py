"""A run continues while generators join it and are lost, on a Ray cluster of several virtual nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from services.access.ray_token import private_ray
from tests.chaos.ledger import violations
from tests.chaos.subject import Subject, chaos_run

START_SECONDS, JOIN_SECONDS, GRACE_SECONDS = 900.0, 300.0, 60.0

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(2400)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A head node for the learner, and a node with room for two generators."""
    with private_ray(tmp_path / "token"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_V2_ENABLED", "1")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "include_dashboard": False})
        cluster.add_node(num_cpus=2, resources={"engine": 2})
        yield cluster
        cluster.shutdown()


def test_generators_join_and_are_lost_and_the_run_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    run = chaos_run(tmp_path / "runs", "elastic")
    run.settings += [
        f"ray.address={cluster.address}",
        "generators.elastic=true",
        "generators.base=3",
        "generators.ray_resource=engine",
        "generators.max_restarts=0",
        "learner.workers=1",
        "control_plane.enabled=false",
    ]
    subject = Subject(run)
    try:
        subject.await_step(5, START_SECONDS)
        assert run.records()[-1].generators_alive == {"base": 1, "adaptive": 1}

        first, _ = (cluster.add_node(num_cpus=1, resources={"engine": 1}) for _ in range(2))

        def working(base: int) -> bool:
            return run.records()[-1].generators_alive == {"base": base, "adaptive": 1}

        run.wait_for("two more generators", lambda: working(3), subject.driver, JOIN_SECONDS)
        subject.await_step(subject.steps_done() + 5, JOIN_SECONDS)
        cluster.remove_node(first, allow_graceful=False)
        run.wait_for("one less", lambda: working(2), subject.driver, JOIN_SECONDS)
        subject.await_step(subject.steps_done() + 20, JOIN_SECONDS)

        assert subject.preempt(GRACE_SECONDS) == 0, run.log
        assert "joined" in run.log
        assert "was lost; it restarts on another node" in run.log
        assert violations(subject.evidence()) == []
        assert {event.lineage for event in subject.evidence().applied} == {1}
    finally:
        subject.kill()
