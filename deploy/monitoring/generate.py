"""Generate dashboard.json from panels.py, and prometheus-rule.yaml from rules.yaml."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import yaml
from panels import ROWS, Panel

HERE = Path(__file__).resolve().parent
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""Ray's dashboard, which embeds this one, sets the variable `datasource`."""


def dashboard() -> str:
    """The dashboard, in the format that Grafana imports."""
    panels: list[dict[str, Any]] = []
    given = {panel.number for row in ROWS.values() for panel in row}
    numbers = (number for number in itertools.count(1) if number not in given)
    y = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": COLUMNS * WIDTH, "x": 0, "y": y}
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": next(numbers),
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        y += 1
        for index, panel in enumerate(row):
            place = {
                "h": HEIGHT,
                "w": WIDTH,
                "x": index % COLUMNS * WIDTH,
                "y": y + index // COLUMNS * HEIGHT,
            }
            panels.append(_panel(panel, panel.number or next(numbers), place))
        y += -(-len(row) // COLUMNS) * HEIGHT
    document = {
        "uid": "scope-rl",
        "title": "SCOPE-RL",
        "tags": ["scope-rl"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _run()]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(document, indent=1) + "\n"


def prometheus_rule() -> str:
    """The rules, in the format of the Prometheus operator."""
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "scope-rl",
            "namespace": "scope-rl",
            "labels": {"app.kubernetes.io/part-of": "scope-rl"},
        },
        "spec": yaml.safe_load((HERE / "rules.yaml").read_text()),
    }
    return "# Made from rules.yaml by generate.py.\n" + yaml.safe_dump(document, sort_keys=False, width=120)


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": {"spanNulls": True}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _run() -> dict[str, Any]:
    query = "label_values(scope_run_steps_done, run)"
    return {
        "name": "run",
        "type": "query",
        "label": "run",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "run"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


OUTPUTS = {"dashboard.json": dashboard, "prometheus-rule.yaml": prometheus_rule}


def main() -> None:
    """Write every output."""
    for name, make in OUTPUTS.items():
        (HERE / name).write_text(make())
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
