"""The Kubernetes objects of a run: an overlay of k8s/, rendered, with the run's configuration and number of pods.

The overlay defines the infrastructure (volume, queue, images, pod sizes) and the configuration defines the training;
both determine how many pods the run needs. kubectl or kustomize renders the overlay, kubectl applies the objects.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.config import GeneratorConfig, LearnerConfig, RunConfig
from trainer.config.load import dump_yaml, load_config_over
from trainer.errors import ScopeError

LONGEST_NAME = 47
"""KubeRay appends to a RayJob's name, and a label has at most 63 characters."""
RUN_LABEL = "scope-rl/run"
CONFIG_KEY = "run.yaml"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class RunObjects:
    """The objects created for one run, as plain dictionaries."""

    job: dict[str, Any]
    config_map: dict[str, Any]


def default_run_id(config_path: Path) -> str:
    """Return the file's name and the time, as a name that Kubernetes allows."""
    stem = re.sub(r"[^a-z0-9]+", "-", config_path.stem.lower()).strip("-")
    stem = stem if stem[:1].isalpha() else f"run-{stem}"
    return f"{stem[:30].rstrip('-')}-{time.strftime('%Y%m%d-%H%M%S')}"


def run_objects(config_path: Path, overlay: Path, run_id: str, overrides: list[str]) -> RunObjects:
    """Build the RayJob and the ConfigMap of a run.

    overlay: a kustomization with one RayJob and one ConfigMap that has `run.yaml`. Raises ScopeError for an invalid run
    id, overlay or configuration, and for a configuration that the overlay's pods cannot run.
    """
    if len(run_id) > LONGEST_NAME or not _NAME.fullmatch(run_id):
        raise ScopeError(
            f"run id = {run_id!r} is not allowed on Kubernetes: it must be at most {LONGEST_NAME} characters of "
            "a-z, 0-9 and '-', beginning with a letter and not ending with '-'."
        )
    documents = _render(overlay)
    jobs = [d for d in documents if d["kind"] == "RayJob"]
    maps = [d for d in documents if d["kind"] == "ConfigMap" and CONFIG_KEY in d.get("data", {})]
    if len(jobs) != 1 or len(maps) != 1:
        raise ScopeError(f"--overlay: {overlay} must render one RayJob and one ConfigMap with {CONFIG_KEY}.")
    job, config_map = jobs[0], maps[0]
    below = yaml.safe_load(config_map["data"][CONFIG_KEY])
    config = load_config_over(below, config_path, overrides)
    _check(config, below)
    config_map["data"][CONFIG_KEY] = dump_yaml(config)
    _rename(job, config_map, run_id)
    cluster = job["spec"]["rayClusterSpec"]
    count = config.generators.base + (
        config.generators.adaptive if config.entropy_control.kind != "none" else 0
    )
    _fit(cluster, "generators", config.generators, count)
    _fit(cluster, "learner", config.learner, config.learner.workers)
    return RunObjects(job, config_map)


def as_yaml(objects: RunObjects) -> str:
    """Return both objects as YAML, for `kubectl create -f -`."""
    return yaml.safe_dump_all([objects.config_map, objects.job], sort_keys=False, width=110)


def apply(objects: RunObjects, context: str | None) -> None:
    """Create the objects. Raises ScopeError when kubectl is missing or fails. Never changes a job of the same name."""
    if shutil.which("kubectl") is None:
        raise ScopeError(
            "kubectl is not installed. Install it to submit a run; --print shows the objects without it."
        )
    kubectl = ["kubectl", *([] if context is None else ["--context", context])]
    # The job first: if its name is taken, the existing job's ConfigMap must not change. New pods wait for the map.
    for verb, document in (("create", objects.job), ("apply", objects.config_map)):
        done = subprocess.run(
            [*kubectl, verb, "-f", "-"],
            input=yaml.safe_dump(document, sort_keys=False),
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise ScopeError(f"kubectl {verb} failed: {done.stderr.strip()}")


def _render(directory: Path) -> list[dict[str, Any]]:
    # Not `Path.is_file`, which raises for a name that is too long.
    if not os.path.isfile(directory / "kustomization.yaml"):
        raise ScopeError(
            f"--overlay: {directory} has no kustomization.yaml. Name a folder of MANIFESTS/overlays that has a "
            "folder `run`, and with --manifests where the manifests are."
        )
    if shutil.which("kustomize"):
        command = ["kustomize", "build", str(directory)]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(directory)]
    else:
        raise ScopeError(
            "Neither kubectl nor kustomize is installed: one of them is needed to render the overlay."
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScopeError(f"--overlay: {directory} does not render: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def _check(config: RunConfig, below: dict[str, Any]) -> None:
    """Raise ScopeError unless the fields that locate the cluster's Ray, volume and Redis have the required values."""
    wanted = {"ray.address": "auto", "control_plane.enabled": False, "runs_dir": below.get("runs_dir")}
    for path, value in wanted.items():
        found: Any = config
        for name in path.split("."):
            found = getattr(found, name)
        if found != value:
            raise ScopeError(
                f"{path} = {found!r} is not allowed on Kubernetes: with this overlay it must be {value!r}."
            )
    if config.redis.url is None:
        raise ScopeError(
            "redis.url = None is not allowed on Kubernetes: it must name the server of the cluster."
        )


def _rename(job: dict[str, Any], config_map: dict[str, Any], run_id: str) -> None:
    old_map = config_map["metadata"]["name"]
    for document in (job, config_map):
        document["metadata"]["name"] = run_id
        document["metadata"].setdefault("labels", {})[RUN_LABEL] = run_id
    words = shlex.split(job["spec"]["entrypoint"])
    words[words.index("--run-id") + 1] = run_id
    job["spec"]["entrypoint"] = shlex.join(words)
    for volume in job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]:
        if volume.get("configMap", {}).get("name") == old_map:
            volume["configMap"]["name"] = run_id


def _fit(cluster: dict[str, Any], block: str, config: GeneratorConfig | LearnerConfig, count: int) -> None:
    """Set the number of pods of the worker group that offers the block's resource to what `count` processes need."""
    groups = [g for g in cluster["workerGroupSpecs"] if config.ray_resource in g.get("resources", {})]
    if len(groups) != 1:
        raise ScopeError(
            f"{block}.ray_resource = {config.ray_resource!r} is offered by {len(groups)} worker groups of the "
            "overlay; it must be one."
        )
    (group,) = groups
    places = int(group["resources"][config.ray_resource])
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    if isinstance(config, GeneratorConfig):
        unit, cpus, gpus = "generator", config.cpus_per_generator, config.gpus_per_generator
    else:
        unit, cpus, gpus = "worker", config.cpus_per_worker, config.gpus_per_worker
    for kind, each, has in (("cpus", cpus, limits["cpu"]), ("gpus", gpus, limits.get("nvidia.com/gpu", "0"))):
        if places * each > _number(has):
            raise ScopeError(
                f"{block}.{kind}_per_{unit} = {each:g} is not allowed with this overlay: a pod has {has} for "
                f"{places}, so at most {_number(has) / places:g}."
            )
    pods = math.ceil(count / places)
    if pods > group["maxReplicas"]:
        raise ScopeError(
            f"{count} processes of {block} need {pods} pods, and the overlay allows {group['maxReplicas']} "
            f"(maxReplicas of the group {group['groupName']})."
        )
    fixed = group["minReplicas"] == group["replicas"]
    group["replicas"] = pods
    group["minReplicas"] = pods if fixed else min(group["minReplicas"], pods)


def _number(quantity: str) -> float:
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
