"""An overlay's objects with all components, their checks, the Compose file, and the versions that both name."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.deployment.operator_rules import operator_problems
from tests.deployment.policy import policy_problems
from tests.deployment.rendered import K8S, Document, find, render
from tests.deployment.schema import schema_problems
from tests.support.repository import ROOT

COMPONENTS = {
    "platform": ["k8s/components/ingress", "k8s/components/redis-tls/platform", "deploy/monitoring"],
    "run": ["k8s/components/kueue", "k8s/components/redis-tls/run"],
}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def problems(documents: list[Document]) -> list[str]:
    """Problems of an installation: by schema; if none, by the operator's rules; if none, by our own rules."""
    found = [problem for document in documents for problem in schema_problems(document)]
    return found or [*operator_problems(find(documents, "RayJob"))] or policy_problems(documents)


def locked(package: str) -> str:
    lines = (ROOT / "deploy" / "locks" / "cpu.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def with_components(overlay: str, folder: Path) -> list[Document]:
    """An installation with all components."""
    documents = []
    for part, components in COMPONENTS.items():
        place = folder / part
        place.mkdir()
        base = K8S / "overlays" / overlay / ("run" if part == "run" else "")
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(base, place.resolve())],
            "components": [os.path.relpath(ROOT / path, place.resolve()) for path in components],
        }
        (place / "kustomization.yaml").write_text(yaml.safe_dump(document))
        documents += render(place)
    return documents
