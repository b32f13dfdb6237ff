"""What an API server would reject: validates every object against its schema, without unknown fields."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

SCHEMAS = Path(__file__).with_name("schemas")
CUSTOM = {
    ("ray.io/v1", "RayJob"): "rayjob-v1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitors-v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheusrules-v1",
}
OLDEST, NEWEST = "1.32", "1.37"
"""Kubernetes releases for which the objects must be valid."""


def close(node: Any) -> Any:
    """A CRD's schema as a JSON schema that rejects unknown fields and accepts int-or-string."""
    if isinstance(node, list):
        return [close(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {
        key: close(value) for key, value in node.items() if key != "format" or not isinstance(value, str)
    }
    if node.get("x-kubernetes-int-or-string") is True:
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    preserving = node.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not preserving:
        closed.setdefault("additionalProperties", False)
    return closed


def load(name: str) -> Any:
    """A vendored schema."""
    return json.loads(gzip.decompress((SCHEMAS / f"{name}.json.gz").read_bytes()))


@lru_cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    closed = close(load(name))
    closed["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(closed)


def schema_problems(document: dict[str, Any]) -> list[str]:
    """One line for each problem of an object."""
    return list(_problems(json.dumps(document)))


@lru_cache(maxsize=1000)
def _problems(text: str) -> tuple[str, ...]:
    document = json.loads(text)
    name = f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"
    custom = CUSTOM.get((document.get("apiVersion", ""), document.get("kind", "")))
    if custom is not None:
        errors = _validator(custom).iter_errors(document)
        return tuple(f"{name} {error.json_path}: {error.message[:200]}" for error in errors)
    found = []
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (
            kubernetes_validate.ValidationError,
            kubernetes_validate.SchemaNotFoundError,
            kubernetes_validate.InvalidSchemaError,
        ) as error:
            found.append(f"{name} ({version}): {str(error)[:200]}")
    return tuple(found)
