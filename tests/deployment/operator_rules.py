"""What KubeRay rejects, or silently does wrong, although its schema allows it.

The operator's own rules are those of `ValidateRayJobSpec` and `ValidateRayClusterSpec` in its 1.7 line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LONGEST_JOB_NAME = 47
TOKEN_AUTH_SINCE, GROUP_PRIORITY_SINCE = (2, 52, 0), (2, 56, 0)
OPERATORS_VARIABLES = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME", "RAY_GCS_STORAGE"}
SUBMISSION_MODES = {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUANTITY = re.compile(r"(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")


def operator_problems(job: dict[str, Any]) -> Iterator[str]:
    """One sentence for each problem of a RayJob."""
    spec = job["spec"]
    name = job["metadata"]["name"]
    if len(name) > LONGEST_JOB_NAME or not _LABEL.fullmatch(name):
        yield f"the name {name!r} is no DNS label of at most {LONGEST_JOB_NAME} characters"
    if spec.get("submissionMode") not in SUBMISSION_MODES:
        yield f"there is no submissionMode {spec.get('submissionMode')!r}"
    if not spec.get("entrypoint"):
        yield "nothing is run: entrypoint is missing"
    if spec.get("backoffLimit", 0) < 0 or spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "backoffLimit and ttlSecondsAfterFinished cannot be negative"
    for deadline in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(deadline, 1) <= 0:
            yield f"{deadline} must be positive"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "a job that may be suspended must have shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished does nothing without shutdownAfterJobFinishes"
    if spec.get("clusterSelector") and spec.get("backoffLimit", 0) > 0:
        yield "backoffLimit needs a cluster of the job's own, not a clusterSelector"
    if spec.get("submissionMode") == "SidecarMode" and (
        "submitterPodTemplate" in spec or "submitterConfig" in spec
    ):
        yield "SidecarMode takes neither submitterPodTemplate nor submitterConfig"
    cluster = spec.get("rayClusterSpec")
    if cluster is None:
        yield "there is neither a rayClusterSpec nor a cluster of one's own"
        return
    yield from _cluster_problems(cluster)
    queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
    if queue is not None and cluster.get("enableInTreeAutoscaling"):
        yield "Kueue does not admit a job that scales by itself"


def _cluster_problems(cluster: dict[str, Any]) -> Iterator[str]:
    scaling = cluster.get("enableInTreeAutoscaling", False)
    options = cluster.get("autoscalerOptions", {})
    second = scaling and options.get("version") == "v2"
    version = _version(cluster.get("rayVersion"))
    head = cluster["headGroupSpec"]
    container = head["template"]["spec"]["containers"][0]
    names = {variable["name"] for variable in container.get("env", [])}
    groups = cluster["workerGroupSpecs"]

    if cluster.get("authOptions", {}).get("mode") == "token" and (
        version is None or version < TOKEN_AUTH_SINCE
    ):
        yield "authOptions.mode token needs a rayVersion of 2.52.0 or later"
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "a RayJob cannot use the tokens of Kubernetes"
    if "gcsFaultToleranceOptions" in cluster:
        if names & OPERATORS_VARIABLES or "redis-password" in head["rayStartParams"]:
            yield "Redis of gcsFaultToleranceOptions is also set by hand"
    elif names & OPERATORS_VARIABLES or "redis-password" in head["rayStartParams"]:
        yield f"{sorted(names & OPERATORS_VARIABLES)} turn on fault tolerance of the GCS by the back door"
    if "RAY_enable_autoscaler_v2" in names:
        yield "the autoscaler's version belongs into autoscalerOptions"
    if "upgradeStrategy" in cluster:
        yield "upgradeStrategy is not for clusters of a RayJob"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds cannot be negative"
    for group in (head, *groups):
        yield from _group_problems(group, second)
    if len({group["groupName"] for group in groups}) < len(groups):
        yield "two worker groups have one name"
    for group in groups:
        name = group["groupName"]
        if not {"replicas", "minReplicas", "maxReplicas"} <= group.keys():
            yield f"group {name} leaves its size to the API server's defaults"
        elif not 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield f"group {name}: not 0 <= minReplicas <= replicas <= maxReplicas"
        if group.get("suspend") and scaling:
            yield f"group {name} cannot be suspended while the cluster scales by itself"
        if "idleTimeoutSeconds" in group and not second:
            yield f"group {name}: idleTimeoutSeconds needs autoscaler v2"
        if group.get("priority") and not (second and version and version >= GROUP_PRIORITY_SINCE):
            yield f"group {name}: priority needs autoscaler v2 and Ray 2.56.0"


def _group_problems(group: dict[str, Any], second: bool) -> Iterator[str]:
    name = group.get("groupName", "head")
    start, resources = group["rayStartParams"], group.get("resources", {})
    if resources and start.keys() & {"num-cpus", "num-gpus", "memory", "resources"}:
        yield f"group {name} has its Ray resources twice, in rayStartParams and in resources"
    if "labels" in start:
        yield f"group {name}: labels belong into the group's own field"
    for key, value in start.items():
        if key in {"num-cpus", "num-gpus"} and not value.isdigit():
            yield f"group {name}: {key} must be a whole number in quotes"
    for key, value in resources.items():
        if not _QUANTITY.fullmatch(value):
            yield f"group {name}: {key} = {value!r} is no quantity, and would be left out without a word"
    if second and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
        yield f"group {name}: autoscaler v2 needs restartPolicy Never"


def _version(text: str | None) -> tuple[int, ...] | None:
    return tuple(map(int, text.split("."))) if text and re.fullmatch(r"\d+\.\d+\.\d+", text) else None
