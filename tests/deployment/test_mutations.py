"""Deliberate mistakes in the manifests, one at a time: the checks that pass without a mistake must find it."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import yaml

from tests.deployment.installation import problems
from tests.deployment.rendered import Document, find, installation

Mistake = Callable[[list[Document]], None]
MULTI = "gpu-multi-node"


def at(node: Any, path: str) -> Any:
    """The value at a path of keys and indices."""
    return reduce(lambda n, part: n[key(part)], path.split("/"), node)


def key(part: str) -> str | int:
    """One part of a path: an index, or a key in which `|` stands for a slash."""
    return int(part) if part.isdigit() else part.replace("|", "/")


def put(kind: str, name: str, path: str, value: Any) -> Mistake:
    """Set a value at a path of an object."""

    def make(documents: list[Document]) -> None:
        parent, _, last = path.rpartition("/")
        document = find(documents, kind, name)
        node: Any = at(document, parent) if parent else document
        node[key(last)] = value

    return make


def drop(kind: str, name: str, path: str) -> Mistake:
    """Remove the value at a path of an object."""

    def make(documents: list[Document]) -> None:
        parent, _, last = path.rpartition("/")
        node = at(find(documents, kind, name), parent)
        del node[key(last)]

    return make


def add(kind: str, name: str, path: str, value: Any) -> Mistake:
    """Append a value to the list at a path of an object."""

    def make(documents: list[Document]) -> None:
        at(find(documents, kind, name), path).append(value)

    return make


def without(kind: str, name: str) -> Mistake:
    """Remove an object."""

    def make(documents: list[Document]) -> None:
        documents.remove(find(documents, kind, name))

    return make


def configured(path: str, value: Any) -> Mistake:
    """Set a value in the run's configuration."""

    def make(documents: list[Document]) -> None:
        data = find(documents, "ConfigMap", "scope-run")["data"]
        config = yaml.safe_load(data["run.yaml"])
        block, _, field = path.rpartition(".")
        (config[block] if block else config)[field] = value
        data["run.yaml"] = yaml.safe_dump(config)

    return make


def holds(size: str) -> Mistake:
    """Set the memory capacity of the queue's server."""

    def make(documents: list[Document]) -> None:
        env = find(documents, *REDIS)["spec"]["template"]["spec"]["containers"][0]["env"]
        next(variable for variable in env if variable["name"] == "MAXMEMORY")["value"] = size

    return make


JOB, CLUSTER = ("RayJob", "scope-run"), "spec/rayClusterSpec"
HEAD, GROUPS = f"{CLUSTER}/headGroupSpec", f"{CLUSTER}/workerGroupSpecs"
CONTAINER = "template/spec/containers/0"
REDIS, PLANE = ("StatefulSet", "redis"), ("Deployment", "control-plane")

MISTAKES: dict[str, tuple[Mistake, str]] = {
    # rejected by the schemas
    "misspelt field in a pod of Ray": (
        put(*JOB, f"{HEAD}/{CONTAINER}/imagePullpolicy", "Never"),
        "imagePullpolicy",
    ),
    "misspelt field of the cluster": (
        put(*JOB, f"{CLUSTER}/enableInTreeAutoScaling", True),
        "enableInTreeAutoScaling",
    ),
    "field of a RayJob in the wrong place": (put(*JOB, f"{CLUSTER}/backoffLimit", 3), "backoffLimit"),
    "number as text": (put(*JOB, "spec/backoffLimit", "3"), "not of type 'integer'"),
    "number in rayStartParams": (put(*JOB, f"{HEAD}/rayStartParams/num-cpus", 0), "not of type 'string'"),
    "resources of Ray as numbers": (
        put(*JOB, f"{GROUPS}/0/resources/scope_generator", 1),
        "not of type 'string'",
    ),
    "unknown autoscaler": (put(*JOB, f"{CLUSTER}/autoscalerOptions/version", "v3"), "'v3'"),
    "unknown authentication": (put(*JOB, f"{CLUSTER}/authOptions/mode", "password"), "'password'"),
    "misspelt field of a Deployment": (
        put(*PLANE, "spec/template/spec/containers/0/readynessProbe", {}),
        "readynessProbe",
    ),
    "unknown kind of rollout": (put(*PLANE, "spec/strategy/type", "Rolling"), "while it is renewed"),
    "volume claim without a size": (
        drop("PersistentVolumeClaim", "runs", "spec/resources/requests"),
        "no size",
    ),
    "network policy with a misspelt direction": (
        put("NetworkPolicy", "redis", "spec/policyTypes", ["Inbound"]),
        "direction",
    ),
    # rejected, or silently accepted, by the operator
    "name longer than 47 characters": (put(*JOB, "metadata/name", "r" * 48), "47 characters"),
    "name with an underscore": (put(*JOB, "metadata/name", "scope_run"), "DNS label"),
    "unknown submission mode": (put(*JOB, "spec/submissionMode", "K8SJobMode"), "submissionMode"),
    "fewest pods above the most": (put(*JOB, f"{GROUPS}/0/minReplicas", 65), "minReplicas <="),
    "more pods than the most": (put(*JOB, f"{GROUPS}/0/replicas", 65), "minReplicas <="),
    "no upper bound": (drop(*JOB, f"{GROUPS}/0/maxReplicas"), "maxReplicas"),
    "token authentication with an old Ray": (put(*JOB, f"{CLUSTER}/rayVersion", "2.51.0"), "2.52.0"),
    "tokens of Kubernetes for a RayJob": (
        put(*JOB, f"{CLUSTER}/authOptions/enableK8sTokenAuth", True),
        "tokens of Kubernetes",
    ),
    "variable of Redis without fault tolerance": (
        add(*JOB, f"{HEAD}/{CONTAINER}/env", {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}),
        "back door",
    ),
    "resources of Ray given twice": (put(*JOB, f"{GROUPS}/0/rayStartParams/num-gpus", "1"), "twice"),
    "resource that is no quantity": (
        put(*JOB, f"{GROUPS}/0/resources/scope_generator", "one"),
        "no quantity",
    ),
    "restarts under autoscaler v2": (
        put(*JOB, f"{GROUPS}/0/template/spec/restartPolicy", "Always"),
        "restartPolicy Never",
    ),
    "Kueue and autoscaling": (put(*JOB, "metadata/labels/kueue.x-k8s.io|queue-name", "scope-rl"), "Kueue"),
    # permissions and secrets
    "root": (put(*PLANE, "spec/template/spec/securityContext/runAsUser", 0), "runs as root"),
    "privileges": (
        put(*REDIS, "spec/template/spec/containers/0/securityContext/privileged", True),
        "gain privileges",
    ),
    "capability": (
        put(*JOB, f"{HEAD}/{CONTAINER}/securityContext/capabilities/add", ["SYS_PTRACE"]),
        "capabilities",
    ),
    "writable root": (
        put(*JOB, f"{GROUPS}/1/{CONTAINER}/securityContext/readOnlyRootFilesystem", False),
        "its own files",
    ),
    "token of the API in every container": (
        put(*JOB, f"{HEAD}/template/spec/automountServiceAccountToken", True),
        "token of the Kubernetes API",
    ),
    "password in plain text": (
        put(*JOB, f"{HEAD}/{CONTAINER}/env/0", {"name": "SCOPE_REDIS_PASSWORD", "value": "x"}),
        "known secret",
    ),
    "secret that nobody makes": (
        put(*PLANE, "spec/template/spec/containers/0/env/0/valueFrom/secretKeyRef/name", "scope-secret"),
        "known secret",
    ),
    "host path": (
        add(*JOB, f"{GROUPS}/0/template/spec/volumes", {"name": "host", "hostPath": {"path": "/"}}),
        "hostPath",
    ),
    "Ray without authentication": (put(*JOB, f"{CLUSTER}/authOptions/mode", "disabled"), "run code"),
    "namespace without Pod security": (
        drop("Namespace", "scope-rl", "metadata/labels/pod-security.kubernetes.io|enforce"),
        "restricted pods",
    ),
    "no default deny": (without("NetworkPolicy", "default-deny"), "nothing denies"),
    "policy that lets everybody in": (
        drop("NetworkPolicy", "control-plane", "spec/ingress/0/from"),
        "everybody in",
    ),
    "policy for a port that is not there": (
        put("NetworkPolicy", "redis", "spec/ingress/0/ports/0/port", "valkey"),
        "nothing listens",
    ),
    # sizes, references, availability
    "memory in thousandths": (
        put(*JOB, f"{GROUPS}/1/{CONTAINER}/resources/limits/memory", "512m"),
        "sensible unit",
    ),
    "no memory limit": (drop(*JOB, f"{HEAD}/{CONTAINER}/resources/limits/memory"), "no limit of memory"),
    "asks for more than it may have": (
        put(*PLANE, "spec/template/spec/containers/0/resources/requests/cpu", 4),
        "more cpu",
    ),
    "queue larger than its memory": (holds("90gb"), "rewrite the file"),
    "two queues": (put(*REDIS, "spec/replicas", 2), "queue of their own"),
    "one control plane": (put(*PLANE, "spec/replicas", 1), "drained"),
    "budget that blocks every drain": (
        put("PodDisruptionBudget", "control-plane", "spec/minAvailable", 2),
        "drained",
    ),
    "service that selects nothing": (
        put("Service", "redis", "spec/selector", {"app": "redis"}),
        "selects nothing",
    ),
    "claim that does not exist": (
        put(*JOB, f"{HEAD}/template/spec/volumes/0/persistentVolumeClaim/claimName", "run"),
        "no claim run",
    ),
    "priority that does not exist": (without("PriorityClass", "scope-learner"), "priority class"),
    "shared memory on disk": (
        drop(*JOB, f"{GROUPS}/1/template/spec/volumes/1/emptyDir/medium"),
        "not in memory",
    ),
    "image without a version": (
        put(*JOB, f"{GROUPS}/0/{CONTAINER}/image", "scope-rl-service"),
        "fixed version",
    ),
    # needs of the run
    "head that takes work": (put(*JOB, f"{HEAD}/rayStartParams/num-cpus", "2"), "takes work"),
    "retries that begin again": (
        put(*JOB, "spec/entrypoint", "scope train /etc/scope/run/run.yaml --run-id scope-run --replace"),
        "begin again",
    ),
    "no retries": (put(*JOB, "spec/backoffLimit", 0), "lost head"),
    "cluster that outlives its run": (
        put(*JOB, "spec/shutdownAfterJobFinishes", False),
        "ttlSecondsAfterFinished",
    ),
    "more generators than pods": (configured("generators.base", 100), "do not fit"),
    "learners without their group": (configured("learner.ray_resource", "scope_learners"), "another group"),
    "GPU of another size": (
        put(*JOB, f"{GROUPS}/1/{CONTAINER}/resources/limits/nvidia.com|gpu", "4"),
        "GPUs asked for and allowed differ",
    ),
    "GPUs on nodes that are not tolerated": (
        drop(*JOB, f"{GROUPS}/0/template/spec/tolerations"),
        "do not tolerate",
    ),
    "queue of the run's own": (configured("redis.url", None), "queue of its own"),
    "run directory that is not on the volume": (configured("runs_dir", "runs"), "not on the volume"),
    "field that the configuration lacks": (configured("learner.worker", 2), "learner.worker "),
    "autoscaler cut off from the API": (without("NetworkPolicy", "ray-autoscaler"), "cannot reach"),
    "learners that may be scaled away": (put(*JOB, f"{GROUPS}/1/minReplicas", 0), "scaled away"),
}
"""The mistake, and words of the message that reports it."""


def test_there_are_thirty_mistakes_and_more() -> None:
    assert len(MISTAKES) >= 30


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_found(mistake: str) -> None:
    documents = installation(MULTI)
    make, words = MISTAKES[mistake]
    make(documents)
    assert documents != installation(MULTI), "the mistake did not change the manifests"
    assert any(words in problem for problem in problems(documents))
