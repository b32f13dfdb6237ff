"""Rules of this project for its own manifests: permissions, secrets, sizes, references, and needs of a run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deployment.rendered import Document, find, pods
from trainer.config import PipelineConfig
from trainer.config.load import validate_config
from trainer.errors import ScopeError

SECRETS = {"scope-secrets", "redis-tls", "scope-metrics-token", "control-plane-tls"}
"""The secrets that docs/how-to/operate-a-cluster.md creates."""
GIVEN = {"kube-root-ca.crt"}
"""Config maps that every namespace has."""
VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
"""Kinds that Pod security `restricted` allows, without those that are not used here."""
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", start=1)}
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|_AUTH$|CLIAUTH|_KEY$")


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def policy_problems(documents: list[Document]) -> list[str]:
    """One sentence for each problem of an installation."""
    found = []
    for name, template in pods(documents):
        found += [f"{name}: {problem}" for problem in _pod_problems(template, documents)]
    for rule in (_service_problems, _redis_problems, _network_problems, _right_problems, _run_problems):
        found += rule(documents)
    return found


def names(documents: list[Document], kind: str) -> set[str]:
    """Names of all objects of a kind."""
    return {d["metadata"]["name"] for d in documents if d["kind"] == kind}


def _pod_problems(template: dict[str, Any], documents: list[Document]) -> Iterator[str]:
    spec = template["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
        yield "runs as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token of the Kubernetes API"
    if spec.get("serviceAccountName") not in names(documents, "ServiceAccount"):
        yield f"has no service account of its own: {spec.get('serviceAccountName')!r}"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of its node"
    if "app.kubernetes.io/component" not in template["metadata"]["labels"]:
        yield "has no component, and so no network"
    priority = spec.get("priorityClassName")
    if template["metadata"]["labels"]["app.kubernetes.io/component"] != "submitter" and (
        priority not in names(documents, "PriorityClass")
    ):
        yield f"its priority class {priority!r} does not exist"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        yield from _volume_problems(volume, documents)
    for container in spec["containers"]:
        yield from _container_problems(container, volumes.keys() | _claims(documents))
    mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0].get("volumeMounts", [])}
    if template["metadata"]["labels"]["app.kubernetes.io/component"] == "ray":
        if volumes.get(mounts.get("/dev/shm", ""), {}).get("emptyDir", {}).get("medium") != "Memory":
            yield "/dev/shm is not in memory"
        if spec.get("terminationGracePeriodSeconds", 30) < 60:
            yield "has too little time to end"


def _claims(documents: list[Document]) -> set[str]:
    return {
        claim["metadata"]["name"]
        for d in documents
        if d["kind"] == "StatefulSet"
        for claim in d["spec"].get("volumeClaimTemplates", [])
    }


def _volume_problems(volume: dict[str, Any], documents: list[Document]) -> Iterator[str]:
    (kind,) = volume.keys() - {"name"}
    source = volume[kind]
    if kind not in VOLUMES:
        yield f"volume {volume['name']} is a {kind}"
    if kind == "emptyDir":
        if "sizeLimit" not in source:
            yield f"volume {volume['name']} may fill the node"
        else:
            quantity(source["sizeLimit"])
    if kind == "secret" and source["secretName"] not in SECRETS:
        yield f"nobody makes the secret {source['secretName']}"
    if kind == "configMap" and source["name"] not in names(documents, "ConfigMap") | GIVEN:
        yield f"there is no config map {source['name']}"
    if kind == "persistentVolumeClaim" and source["claimName"] not in names(
        documents, "PersistentVolumeClaim"
    ):
        yield f"there is no claim {source['claimName']}"


def _container_problems(container: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write its own files"
    image = container["image"].rpartition("/")[2]
    if ":" not in image or image.endswith(":latest"):
        yield f"its image {image} has no fixed version"
    for variable in container.get("env", []):
        if _SECRET_NAME.search(variable["name"]):
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            if reference.get("name") not in SECRETS:
                yield f"{variable['name']} is not taken from a known secret"
        elif "value" not in variable:
            yield f"{variable['name']} has no value"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is not there"
    yield from _resource_problems(container.get("resources", {}))


def _resource_problems(resources: dict[str, Any]) -> Iterator[str]:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for kind in ("cpu", "memory"):
        if kind not in requests or kind not in limits:
            yield f"has no request or no limit of {kind}"
            return
    try:
        for kind, asked in requests.items():
            if quantity(asked) > quantity(limits.get(kind, asked)):
                yield f"asks for more {kind} than it may have"
        if quantity(limits["memory"]) < 64 * 2**20 or quantity(limits["cpu"]) > 1024:
            yield "has a limit without a sensible unit"
    except ValueError as error:
        yield str(error)
    if requests.get("nvidia.com/gpu") != limits.get("nvidia.com/gpu"):
        yield "GPUs asked for and allowed differ"


def _service_problems(documents: list[Document]) -> Iterator[str]:
    plane = find(documents, "Deployment", "control-plane")
    budget = find(documents, "PodDisruptionBudget", "control-plane")["spec"]
    if plane["spec"]["replicas"] < 2 or budget["minAvailable"] >= plane["spec"]["replicas"]:
        yield "control-plane: a node cannot be drained without an outage, or not at all"
    for name, template in pods(documents):
        if name not in ("control-plane", "redis"):
            continue
        for container in template["spec"]["containers"]:
            missing = {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys()
            ports = {port["name"] for port in container["ports"]}
            for probe in {"startupProbe", "readinessProbe", "livenessProbe"} & container.keys():
                target = container[probe].get("httpGet", container[probe].get("tcpSocket", {}))
                if target.get("port", next(iter(ports))) not in ports:
                    yield f"{name}: {probe} asks a port that is not there"
            if missing:
                yield f"{name}: has no {', '.join(sorted(missing))}"
        service = find(documents, "Service", name)["spec"]
        if not service["selector"].items() <= template["metadata"]["labels"].items():
            yield f"{name}: its service selects nothing"
        if service["ports"][0]["targetPort"] not in ports:
            yield f"{name}: its service leads to no port"
        if service.get("type", "ClusterIP") != "ClusterIP":
            yield f"{name}: its service is open to the world"
    if plane["spec"].get("strategy", {}).get("type", "RollingUpdate") != "RollingUpdate":
        yield "control-plane: is away while it is renewed"
    for claim in (d["spec"] for d in documents if d["kind"] == "PersistentVolumeClaim"):
        if "storage" not in claim["resources"].get("requests", {}):
            yield "a volume claim has no size"
    for ingress in (d for d in documents if d["kind"] == "Ingress"):
        covered = {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}
        if not {rule["host"] for rule in ingress["spec"]["rules"]} <= covered:
            yield "ingress: a host has no TLS"


def _redis_problems(documents: list[Document]) -> Iterator[str]:
    redis = find(documents, "StatefulSet", "redis")
    container = redis["spec"]["template"]["spec"]["containers"][0]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    limit = quantity(container["resources"]["limits"]["memory"])
    size = re.fullmatch(r"(\d+)(mb|gb)", values["MAXMEMORY"] or "")
    if size is None:
        yield f"redis: MAXMEMORY = {values['MAXMEMORY']!r} is no size"
        return
    holds = int(size[1]) * {"mb": 2**20, "gb": 2**30}[size[2]]
    if holds > 0.8 * limit:
        yield "redis: its memory limit leaves no room to rewrite the file"
    if redis["spec"]["replicas"] != 1:
        yield "redis: replicas would each have a queue of their own"
    if not redis["spec"].get("volumeClaimTemplates"):
        yield "redis: its file is lost with the pod"
    script = container["command"][-1]
    for option in ("--appendonly yes", "noeviction", "--aclfile", "user default off"):
        if option not in script:
            yield f"redis: starts without {option}"
    for config in (d for d in documents if d["kind"] == "ConfigMap" and "run.yaml" in d["data"]):
        pipeline = yaml.safe_load(config["data"]["run.yaml"]).get("pipeline", {})
        if pipeline.get("unacked_bytes", PipelineConfig().unacked_bytes) > holds / 1.2:
            yield "redis: cannot hold what a run leaves unacknowledged"


def _network_problems(documents: list[Document]) -> Iterator[str]:
    policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
    if not any(
        p["spec"]["podSelector"] == {} and sorted(p["spec"]["policyTypes"]) == ["Egress", "Ingress"]
        for p in policies
    ):
        yield "network: nothing denies what is not allowed"
    components = {t["metadata"]["labels"].get("app.kubernetes.io/component") for _, t in pods(documents)}
    ports = {
        port[key]
        for _, template in pods(documents)
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
        for key in ("name", "containerPort")
    }
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        if not set(spec["policyTypes"]) <= {"Ingress", "Egress"}:
            yield f"network: policy {name} has a direction that does not exist"
        labels = spec["podSelector"].get("matchLabels", {})
        if labels.get("app.kubernetes.io/component", "ray") not in components:
            yield f"network: policy {name} selects nothing"
        for rule in spec.get("ingress", []):
            if not rule.get("from"):
                yield f"network: policy {name} lets everybody in"
            if any(port["port"] not in ports for port in rule.get("ports", [])):
                yield f"network: policy {name} opens a port that nothing listens on"
        for rule in spec.get("egress", []):
            if not rule.get("to") or any(
                p.get("ipBlock", {}).get("cidr", "").endswith("/0") for p in rule["to"]
            ):
                yield f"network: policy {name} lets out to everywhere"


def _right_problems(documents: list[Document]) -> Iterator[str]:
    labels = find(documents, "Namespace")["metadata"]["labels"]
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce restricted pods"
    for account in (d for d in documents if d["kind"] == "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"service account {account['metadata']['name']} hands its token to every pod"
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        if names(documents, kind):
            yield f"a {kind} is given, and nothing needs one"
    for secret in names(documents, "Secret"):
        yield f"the secret {secret} is written down"
    namespaces = {d["metadata"].get("namespace") for d in documents if d["kind"] not in _CLUSTER_WIDE}
    if namespaces != {find(documents, "Namespace")["metadata"]["name"]}:
        yield f"objects are in the namespaces {namespaces}"


_CLUSTER_WIDE = {"Namespace", "PriorityClass"}


def _run_problems(documents: list[Document]) -> Iterator[str]:
    job = find(documents, "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    head, groups = cluster["headGroupSpec"], {g["groupName"]: g for g in cluster["workerGroupSpecs"]}
    if spec.get("shutdownAfterJobFinishes") is not True or spec.get("backoffLimit", 0) < 1:
        yield "run: the cluster outlives its run, or a lost head ends it"
    if "--continue" not in spec["entrypoint"]:
        yield "run: a retry would begin again"
    if head["rayStartParams"].get("num-cpus") != "0" or head["rayStartParams"].get("num-gpus") != "0":
        yield "run: the head takes work"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "run: whoever reaches Ray may run code"
    if set(groups) != {"generator", "learner"}:
        yield f"run: its groups are {sorted(groups)}"
        return
    for name, group in groups.items():
        yield from _group_problems(name, group)
    if groups["learner"]["minReplicas"] != groups["learner"]["replicas"]:
        yield "run: learners may be scaled away"
    if cluster.get("enableInTreeAutoscaling") and not any(
        peer.get("ipBlock")
        for d in documents
        if d["kind"] == "NetworkPolicy"
        for rule in d["spec"].get("egress", [])
        for peer in rule["to"]
    ):
        yield "run: the autoscaler cannot reach the Kubernetes API"
    containers = head["template"]["spec"]["containers"]
    mounts = {m["name"]: m["mountPath"] for m in containers[0]["volumeMounts"]}
    try:
        config = validate_config(
            yaml.safe_load(find(documents, "ConfigMap", "scope-run")["data"]["run.yaml"])
        )
    except ScopeError as error:
        yield f"run: {error}"
        return
    if f"{mounts.get('config')}/run.yaml " not in spec["entrypoint"]:
        yield "run: its configuration is not where it looks"
    if config.runs_dir != mounts.get("runs"):
        yield "run: its directory is not on the volume"
    if config.ray.address != "auto" or config.control_plane.enabled or config.redis.url is None:
        yield "run: would start a Ray, a control plane or a queue of its own"
    for name, block, count, cpus, gpus in (
        (
            "generator",
            config.generators,
            config.generators.base + config.generators.adaptive,
            config.generators.cpus_per_generator,
            config.generators.gpus_per_generator,
        ),
        (
            "learner",
            config.learner,
            config.learner.workers,
            config.learner.cpus_per_worker,
            config.learner.gpus_per_worker,
        ),
    ):
        group = groups[name]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        if block.ray_resource not in group.get("resources", {}):
            yield f"run: {name}s may be put into another group"
            continue
        places = int(group["resources"][block.ray_resource])
        if count > group["replicas"] * places:
            yield f"run: {count} {name}s do not fit into {group['replicas']} pods"
        if places * cpus > quantity(limits["cpu"]) or places * gpus > quantity(
            limits.get("nvidia.com/gpu", 0)
        ):
            yield f"run: a pod of {name}s holds less than its {places} ask for"


def _group_problems(name: str, group: dict[str, Any]) -> Iterator[str]:
    pod = group["template"]["spec"]
    limits = pod["containers"][0].get("resources", {}).get("limits", {})
    tolerated = {toleration.get("key") for toleration in pod.get("tolerations", [])}
    if "nvidia.com/gpu" in limits and "nvidia.com/gpu" not in tolerated:
        yield f"run: {name}s ask for GPUs but do not tolerate their nodes"
    shm = next((v for v in pod["volumes"] if v["name"] == "shm"), {}).get("emptyDir", {}).get("sizeLimit")
    if shm and "memory" in limits and quantity(shm) > 0.5 * quantity(limits["memory"]):
        yield f"run: /dev/shm of {name}s takes more than half of their memory"
    if name == "generator" and "topologySpreadConstraints" not in pod:
        yield "run: all generators may be on one node"
