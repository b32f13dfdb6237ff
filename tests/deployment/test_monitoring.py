"""Alerts and dashboard are generated from one source and query only series that the control plane serves."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
import ray
import yaml
from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard
from starlette.testclient import TestClient

from services.access.tokens import create_token
from services.control_plane.app import create_app
from services.records.step_record import StepRecord
from services.redis.access import RedisAccess
from services.run.heartbeats import beat
from services.run.phases import Phase
from services.run.state import RunSpec, update_status
from tests.deployment.alerts import ALERTS, DASHBOARD, MONITORING, expressions, selectors
from tests.deployment.installation import SERVICES
from tests.deployment.rendered import ROOT
from tests.support.runs.registered_run import register_run
from tests.support.step_records import record
from trainer.config import ControlPlaneConfig, RunConfig

RUNBOOKS = ROOT / "docs" / "how-to" / "respond-to-alerts.md"
UNIT_TESTS = yaml.safe_load((MONITORING / "rules-test.yaml").read_text())["tests"]


def module(name: str) -> ModuleType:
    """Import a script of deploy/monitoring as a module."""
    sys.path.insert(0, str(MONITORING))
    try:
        spec = importlib.util.spec_from_file_location(f"monitoring_{name}", MONITORING / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(MONITORING))
    return loaded


@pytest.fixture
def served(redis, redis_access: RedisAccess) -> set[tuple[str, str]]:
    """Names and keys of the series of an active run with a complete step record."""
    run = f"run-{uuid.uuid4().hex[:8]}"
    config = RunConfig()
    spec = RunSpec(
        run_id=run, config=config.model_dump(mode="json"), config_hash="0", started_at=0, versions={}
    )
    register_run(redis, run, spec)
    full: dict[str, Any] = msgspec.to_builtins(record(2), str_keys=True)
    full |= {name: 0.5 for name, value in full.items() if value is None}
    update_status(redis, run, phase="running", step=3, record=full)
    beat(redis, run, "base-generator-0", {"role": "base", "state": "sampling", "step": 2})
    token = create_token(redis, run, "prometheus", "viewer")
    with TestClient(create_app(redis_access, ControlPlaneConfig())) as client:
        text = client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {
        (re.split(r"[{ ]", line)[0], found[1] if (found := re.search(r'key="([^"]*)"', line)) else "")
        for line in lines
    }


def test_every_series_of_rules_and_dashboard_exists(served: set[tuple[str, str]]) -> None:
    names = {name for name, _ in served}
    asked = {selector for expression in expressions() for selector in selectors(expression)}
    assert len(asked) > 50
    assert {name for name, _ in asked} <= names
    phases = {("scope_run_phase", phase) for phase in get_args(Phase)}
    assert {selector for selector in asked if selector[1]} - phases <= served


def test_dashboard_shows_every_number_of_the_step_record_that_changes() -> None:
    shown = {name for expression in expressions() for name, _ in selectors(expression)}
    fields = {f"scope_{field.name}" for field in msgspec.structs.fields(StepRecord)}
    left_out = {
        # positions in the run, and values for the next step, which the next record repeats
        *(
            "step",
            "lineage",
            "at",
            "entropy_target_generation",
            "starting_entropy",
            "unscored_causes",
            "unscored_example",
            "next_temperature",
            "next_alpha",
        ),
        # shown in another form
        *("queue_unread", "queue_pending", "groups", "tokens", "generated_tokens", "alarms", "alarm_kinds"),
        *("regularizer_strength", "spanning_rollouts", "padding_share", "token_imbalance"),
    }
    assert fields - shown == {f"scope_{name}" for name in left_out}


def test_generated_files_are_up_to_date() -> None:
    for name, make in module("generate").OUTPUTS.items():
        assert (MONITORING / name).read_text() == make(), "run .venv/bin/python deploy/monitoring/generate.py"


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_the_dashboard_of_ray_shows_ours_and_finds_the_panels_that_its_first_page_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "RAY_GRAFANA_DEFAULT_DASHBOARD_UID"
    monkeypatch.setenv(name, SERVICES["run"]["environment"][name])
    _, uid = generate_default_grafana_dashboard()
    assert uid == DASHBOARD["uid"]
    job = yaml.safe_load((ROOT / "k8s" / "base" / "run" / "rayjob.yaml").read_text())
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert {"name": name, "value": uid} in head["env"]
    (script,) = Path(ray.__file__).parent.glob("dashboard/client/build/static/js/main.*.js")
    asked = re.findall(r"default-dashboard\?.{0,150}?panelId=(\d+)&var-(\w+)=", script.read_text())
    assert len(asked) == 2
    assert {int(number) for number, _ in asked} <= {panel["id"] for panel in DASHBOARD["panels"]}
    assert {variable for _, variable in asked} <= {v["name"] for v in DASHBOARD["templating"]["list"]}


def test_every_alert_has_a_runbook_and_a_unit_test() -> None:
    headings = re.findall(r"^#+ (.*)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert [test["name"] for test in UNIT_TESTS] == list(ALERTS)
    for name, rule in ALERTS.items():
        assert name in headings
        assert rule["annotations"]["runbook"] == f"{RUNBOOKS.relative_to(ROOT)}#{name.lower()}"
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_every_unit_test_sees_its_alert_quiet_then_firing_then_resolved() -> None:
    for test in UNIT_TESTS:
        states = [
            (check["alertname"], bool(check["exp_alerts"]))
            for check in sorted(test["alert_rule_test"], key=lambda check: int(check["eval_time"][:-1]))
        ]
        assert states == [(test["name"], firing) for firing in (False, True, False)]


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yaml"), ("test", "rules", "rules-test.yaml")]
)
def test_promtool_accepts_the_rules_and_their_unit_tests(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: .ci/run installs Debian's prometheus")
    done = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_an_alert_that_does_not_fire(tmp_path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: .ci/run installs Debian's prometheus")
    for name in ("rules.yaml", "rules-test.yaml"):
        shutil.copy(MONITORING / name, tmp_path)
    rules = (tmp_path / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(rules.replace("/ max by (run) (scope_reference) > 0.15", "> 0.15"))
    done = subprocess.run(
        ["promtool", "test", "rules", "rules-test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "ScopeEntropyOffTarget" in done.stdout + done.stderr
