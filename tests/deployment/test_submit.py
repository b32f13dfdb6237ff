"""`scope submit`: the objects of a run fit its configuration and are as valid as the manifests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli import main
from services.kubernetes.run_objects import default_run_id
from tests.deployment.installation import problems
from tests.deployment.rendered import K8S, OVERLAYS, Document, render, renderer
from tests.support.repository import QUICKSTART
from trainer.config.load import validate_config


def submit(*arguments: str, overlay: str = "cpu-kind") -> int:
    renderer()
    return main(["submit", str(QUICKSTART), "--overlay", overlay, "--manifests", str(K8S), *arguments])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, overlay: str = "cpu-kind") -> list[Document]:
    assert submit("--print", *arguments, overlay=overlay) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, overlay: str = "cpu-kind") -> str:
    assert submit("--print", *arguments, overlay=overlay) == 2
    return capsys.readouterr().err


def groups(job: Document) -> dict[str, Any]:
    return {group["groupName"]: group for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_printed_run_is_valid_in_its_installation(overlay: str, capsys) -> None:
    config_map, job = printed(capsys, "--run-id", "scope-run", overlay=overlay)
    assert problems([*render(K8S / "overlays" / overlay), config_map, job]) == []


def test_configuration_wins_over_the_overlay_and_settings_over_both(capsys) -> None:
    config_map, _ = printed(capsys, "--set", "steps=7", overlay="gpu-multi-node")
    config = validate_config(yaml.safe_load(config_map["data"]["run.yaml"]))
    assert config.steps == 7
    assert config.optimizer.learning_rate == 2e-4  # from the file
    assert config.learner.workers == 1  # from the file; the overlay has 16
    assert config.generators.gpus_per_generator == 1  # from the overlay


def test_run_id_is_the_name_of_everything(capsys) -> None:
    config_map, job = printed(capsys, "--run-id", "first-try")
    assert job["metadata"]["name"] == config_map["metadata"]["name"] == "first-try"
    assert job["metadata"]["labels"]["scope-rl/run"] == "first-try"
    assert "--run-id first-try --continue" in job["spec"]["entrypoint"]
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert [v["configMap"]["name"] for v in volumes if "configMap" in v] == ["first-try"]


def test_pods_follow_the_configuration(capsys) -> None:
    settings = ("generators.base=20", "generators.adaptive=10", "learner.workers=16")
    arguments = [part for setting in settings for part in ("--set", setting)]
    _, job = printed(capsys, *arguments, overlay="gpu-multi-node")
    found = groups(job)
    assert (found["generator"]["replicas"], found["generator"]["minReplicas"]) == (30, 1)
    assert (found["learner"]["replicas"], found["learner"]["minReplicas"]) == (2, 2)


def test_run_without_entropy_control_has_no_pods_for_adaptive_generators(capsys) -> None:
    settings = ("--set", "generators.base=3", "--set", "entropy_control.kind=none")
    _, job = printed(capsys, *settings, overlay="gpu-multi-node")
    assert groups(job)["generator"]["replicas"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run-id", "Upper"], ["run id = 'Upper'", "47", "a-z"]),
        (["--run-id", "r" * 48], ["47 characters"]),
        (["--set", "generators.base=9"], ["10 processes of generators", "allows 2"]),
        (["--set", "learner.cpus_per_worker=3"], ["learner.cpus_per_worker = 3", "at most 2"]),
        (["--set", "generators.gpus_per_generator=1"], ["generators.gpus_per_generator = 1", "at most 0"]),
        (["--set", "runs_dir=runs"], ["runs_dir = 'runs'", "'/runs'"]),
        (["--set", "redis.url=null"], ["redis.url"]),
        (["--set", "control_plane.enabled=true"], ["control_plane.enabled"]),
        (["--set", "learner.ray_resource=other"], ["learner.ray_resource = 'other'"]),
        (["--set", "learner.wrkers=1"], ["learner.workers"]),
    ],
)
def test_run_that_the_overlay_cannot_hold_is_refused(arguments: list[str], words: list[str], capsys) -> None:
    message = refusal(capsys, *arguments)
    assert all(word in message for word in words), message


def test_overlay_that_does_not_exist_is_refused(capsys) -> None:
    assert "kustomization.yaml" in refusal(capsys, overlay="nowhere")


def test_default_run_id_is_a_name_that_kubernetes_allows() -> None:
    for name in ("countdown-cpu", "My_Run.v2", "7b", "a" * 90, "x-" * 40):
        run_id = default_run_id(Path(f"{name}.yaml"))
        assert len(run_id) <= 47
        assert run_id[0].isalpha()
        assert set(run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that renders like the real one and records what it would create; `refuse` makes creation fail."""
    real = shutil.which("kubectl")
    if real is None:
        pytest.skip("kubectl is not installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f"""#!/bin/sh
case "$*" in kustomize*) exec {real} "$@";; esac
[ -e {tmp_path}/refuse ] && {{ echo already exists >&2; exit 1; }}
echo "$@" >> {tmp_path}/calls
cat >> {tmp_path}/objects
echo --- >> {tmp_path}/objects
"""
    (folder / "kubectl").write_text(script)
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def test_submitted_run_is_created_by_kubectl(cluster: Path, capsys) -> None:
    assert submit("--run-id", "first-try", "--context", "kind") == 0
    assert (cluster / "calls").read_text().splitlines() == [
        "--context kind create -f -",
        "--context kind apply -f -",
    ]
    created = [d for d in yaml.safe_load_all((cluster / "objects").read_text()) if d]
    assert [document["kind"] for document in created] == ["RayJob", "ConfigMap"]
    assert "scope status" in capsys.readouterr().out


def test_refusal_of_kubectl_is_passed_on_and_leaves_the_configuration_alone(cluster: Path, capsys) -> None:
    (cluster / "refuse").touch()
    assert submit("--run-id", "first-try") == 2
    assert "kubectl create failed: already exists" in capsys.readouterr().err
    assert not (cluster / "calls").exists()
