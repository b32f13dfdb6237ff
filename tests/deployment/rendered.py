"""The manifests as rendered by kubectl or kustomize."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT

K8S = ROOT / "k8s"
OVERLAYS = ("cpu-kind", "gpu-single-node", "gpu-multi-node")
Document = dict[str, Any]


def renderer() -> list[str]:
    """The command that renders a directory; skips the test, with the reason, if there is none."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    pytest.skip("neither kustomize nor kubectl is installed: .ci/run installs kubectl")


@lru_cache
def _render(directory: Path) -> str:
    done = subprocess.run([*renderer(), str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{directory}: {done.stderr}"
    assert not done.stderr, f"{directory} renders with warnings: {done.stderr}"
    return done.stdout


def render(directory: Path) -> list[Document]:
    """The objects of a kustomization; every call returns new copies."""
    return list(yaml.load_all(_render(directory), Loader=yaml.CSafeLoader))


def installation(overlay: str) -> list[Document]:
    """Everything that an overlay installs: the permanent objects, and one run."""
    directory = K8S / "overlays" / overlay
    return render(directory) + render(directory / "run")


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod template, under a descriptive name."""
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet"}:
            yield document["metadata"]["name"], document["spec"]["template"]
        elif document["kind"] == "RayJob":
            spec = document["spec"]
            yield "submitter", spec["submitterPodTemplate"]
            cluster = spec["rayClusterSpec"]
            yield "head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield group["groupName"], group["template"]


def find(documents: list[Document], kind: str, name: str | None = None) -> Document:
    """The one object of that kind and name."""
    (found,) = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    return found
