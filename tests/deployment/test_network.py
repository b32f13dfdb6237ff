"""The network policies as a model, with pairs of pods that must and must not reach each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deployment.installation import with_components
from tests.deployment.rendered import Document, pods

HERE = "scope-rl"
GUESTS = {
    "operator": ("kuberay", {"app.kubernetes.io/name": "kuberay-operator"}),
    "client": ("notebooks", {"scope-rl/client": "true"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "false prometheus": ("notebooks", {"app.kubernetes.io/name": "prometheus"}),
    "grafana": ("monitoring", {"app.kubernetes.io/name": "grafana"}),
    "ingress": ("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}),
    "dns": ("kube-system", {"k8s-app": "kube-dns"}),
    "stranger": ("notebooks", {}),
    "stranger here": (HERE, {}),
}
PORTS = {"redis": 6379, "http": 8080, "metrics": 8080, "dashboard": 8265}


class Network:
    """The policies of an installation, applied as a cluster network applies them."""

    def __init__(self, documents: list[Document]) -> None:
        self._policies = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy"]
        self._pods = {
            name: (HERE, dict(template["metadata"]["labels"])) for name, template in pods(documents)
        }
        self._pods["head"][1]["ray.io/node-type"] = "head"  # as the operator sets them
        self._pods |= GUESTS

    def allows(self, source: str, destination: str, port: int) -> bool:
        """Whether `source` may reach `destination` on the port; guests are unrestricted in their own namespaces."""
        return self._direction("Egress", source, destination, port) and self._direction(
            "Ingress", destination, source, port
        )

    def _direction(self, direction: str, here: str, there: str, port: int) -> bool:
        namespace, labels = self._pods[here]
        if namespace != HERE:
            return True
        applying = [
            spec
            for spec in self._policies
            if direction in spec["policyTypes"] and selects(spec["podSelector"], labels)
        ]
        assert applying, "default-deny must select every pod"
        return any(
            self._peer(peer, there) and (not rule.get("ports") or port in map(number, rule["ports"]))
            for spec in applying
            for rule in spec.get(direction.lower(), [])
            for peer in rule["from" if direction == "Ingress" else "to"]
        )

    def _peer(self, peer: dict[str, Any], name: str) -> bool:
        if "ipBlock" in peer:
            return name == "kubernetes api"
        namespace, labels = self._pods[name]
        there = {"kubernetes.io/metadata.name": namespace}
        in_namespace = (
            selects(peer["namespaceSelector"], there) if "namespaceSelector" in peer else namespace == HERE
        )
        return in_namespace and selects(peer.get("podSelector", {}), labels)


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels, and matchExpressions with In) selects these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(labels.get(e["key"]) in e["values"] for e in expressions)


def number(port: dict[str, Any]) -> int:
    """A port's number, given by name or number."""
    return PORTS[port["port"]] if port["port"] in PORTS else int(port["port"])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder: Path = tmp_path_factory.mktemp("network")
    return Network(with_components("gpu-multi-node", folder))


@pytest.mark.parametrize(
    ("source", "destination", "port"),
    [
        ("generator", "redis", 6379),
        ("learner", "redis", 6379),
        ("head", "redis", 6379),
        ("control-plane", "redis", 6379),
        ("generator", "learner", 40000),
        ("generator", "head", 6379),
        ("learner", "learner", 29500),
        ("submitter", "head", 8265),
        ("operator", "head", 8265),
        ("client", "control-plane", 8080),
        ("ingress", "control-plane", 8080),
        ("prometheus", "control-plane", 8080),
        ("prometheus", "head", 8080),
        ("prometheus", "generator", 8080),
        ("head", "prometheus", 9090),
        ("head", "grafana", 3000),
        ("learner", "dns", 53),
        ("submitter", "dns", 53),
    ],
)
def test_what_is_needed_gets_through(network: Network, source: str, destination: str, port: int) -> None:
    assert network.allows(source, destination, port)


@pytest.mark.parametrize(
    ("source", "destination", "port"),
    [
        ("submitter", "redis", 6379),
        ("submitter", "head", 10001),
        ("client", "redis", 6379),
        ("client", "head", 8265),
        ("stranger", "redis", 6379),
        ("stranger", "control-plane", 8080),
        ("stranger", "head", 8265),
        ("stranger here", "redis", 6379),
        ("stranger here", "control-plane", 8080),
        ("stranger here", "head", 6379),
        ("prometheus", "redis", 6379),
        ("false prometheus", "control-plane", 8080),
        ("prometheus", "head", 8265),
        ("operator", "head", 10001),
        ("operator", "redis", 6379),
        ("ingress", "redis", 6379),
        ("ingress", "head", 8265),
        ("control-plane", "head", 8265),
        ("redis", "generator", 6379),
        ("redis", "stranger", 443),
        ("control-plane", "stranger", 443),
        ("generator", "stranger", 443),
        ("generator", "grafana", 3000),
        ("learner", "dns", 443),
    ],
)
def test_nothing_else_gets_through(network: Network, source: str, destination: str, port: int) -> None:
    assert not network.allows(source, destination, port)
