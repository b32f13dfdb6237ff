"""The alerting rules, and the expressions in alerts and dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from tests.deployment.rendered import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}


def expressions() -> Iterator[str]:
    """Every query in the rules and the dashboard."""
    for group in RULES["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query")


def selectors(expression: str) -> set[tuple[str, str]]:
    """Pairs of series name and requested `key` label; "" without one."""
    found = re.findall(r"\b(scope_\w+)(?:\{([^}]*)\})?", expression)
    return {
        (name, key)
        for name, labels in found
        for key in (re.findall(r'key[=!]~?"([^"]*)"', labels) or [""])[0].split("|")
    }
