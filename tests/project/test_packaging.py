"""The distribution: engine extras, lock files, the wheel, the installer, and imports of its modules."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.support.repository import ROOT

DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted(p for room in ("services", "trainer") for p in (ROOT / room).rglob("*.py"))


def load(name: str) -> ModuleType:
    """Import a module of deploy/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


preflight = load("preflight")
installer = load("install")
lock = load("lock")


def pins(name: str) -> dict[str, str]:
    lines = (DEPLOY / "locks" / f"{name}.txt").read_text().splitlines()
    return dict(re.split("={2,3}", line) for line in lines if line and not line.startswith("#"))


# --- extras and locks


def test_extras_contradict_each_other() -> None:
    stated = PROJECT["optional-dependencies"]
    cpu, gpu = (
        {r.name: r for r in map(Requirement, stated[extra])}["apache-tvm-ffi"] for extra in ("cpu", "gpu")
    )
    assert str(gpu.specifier) == "==0.1.11"
    assert not cpu.specifier.contains("0.1.11")


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_lock_satisfies_every_stated_requirement(extra: str) -> None:
    locked = pins(extra) | pins("dev")
    for requirement in lock.direct_requirements((extra, "dev")):
        version = locked[lock.canonical(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"


def test_lock_is_complete_and_is_what_this_environment_runs() -> None:
    extra = "gpu" if list(importlib.metadata.distributions(name="vllm")) else "cpu"
    installed = lock.closure(lock.direct_requirements((extra, "dev")))
    assert installed == pins(extra) | pins("dev")


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchcodec"])
def test_packages_that_break_vllm_are_neither_locked_nor_installed(name: str) -> None:
    assert all(name not in pins(each) for each in ("cpu", "gpu", "dev"))
    assert importlib.util.find_spec(name) is None


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_development_tools_stay_out_of_the_running_service(extra: str) -> None:
    assert not pins(extra).keys() & pins("dev").keys()


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the tree gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for room in ("services", "trainer"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(tree)], check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_source_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    rooms = [ROOT / "services", ROOT / "trainer"]
    files = {p for room in rooms for p in room.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {str(p.relative_to(ROOT)) for p in files} <= inside
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in inside)


def test_installed_wheel_works_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    located = run(
        sys.executable, "-c", "import services, trainer; print(services.__file__, trainer.__file__)"
    )
    assert located.count(str(site)) == 2
    assert "train" in run(str(site / "bin" / "scope"), "--help")


# --- the installer


@pytest.fixture
def machine() -> object:
    """A machine that meets all requirements of the install."""
    return preflight.Machine(
        python=(3, 11, 7),
        system="Linux",
        architecture="x86_64",
        free_bytes=100 << 30,
        temporary_bytes=100 << 30,
        missing=(),
        apt="/usr/bin/apt-get",
        sudo=None,
        root=True,
    )


def test_good_machine_passes_every_check(machine) -> None:
    preflight.prepare(machine, "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": (3, 12, 1)}, "Python 3.12.1.*need 3.11"),
        ({"python": (3, 10, 0)}, "Python 3.10.0.*need 3.11"),
        ({"architecture": "aarch64"}, "Linux on aarch64.*x86_64 only"),
        ({"system": "Darwin"}, "Darwin.*x86_64 only"),
        ({"free_bytes": 7 << 30}, r"7\.0 GiB are free.*needs 8 GiB"),
        ({"temporary_bytes": 0}, r"0\.0 GiB are free.*temporary files"),
        ({"missing": ("g++",), "apt": None}, r"missing on this machine: g\+\+.*no apt-get"),
        (
            {"missing": ("libnuma1",), "root": False},
            "not root and there is no sudo.*apt-get install libnuma1",
        ),
        ({"missing": ("g++",), "apt": "/bin/false"}, r"apt-get update` failed.*g\+\+"),
    ],
)
def test_machine_without_a_need_is_refused_in_one_sentence(machine, change: dict, words: str) -> None:
    lacking = replace(machine, **change)
    with pytest.raises(preflight.InstallError, match=words) as caught:
        preflight.prepare(lacking, "cpu")
    assert "\n" not in str(caught.value)


def run_installer(venv: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEPLOY / "install.py"), "--venv", str(venv), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_missing_compiler_stops_the_install_before_anything_is_made(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert "g++" in error_line(run_installer(venv, PATH=str(tmp_path)))
    assert not venv.exists()


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with pip alone, as left by an install that stopped at its first package."""
    venv = tmp_path_factory.mktemp("bare") / "venv"
    installer.create_venv(venv)
    yield venv
    shutil.rmtree(venv)


NO_SOURCES = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_RETRIES": "1",
}


def test_unreachable_index_is_reported_as_no_network(bare_venv: Path) -> None:
    done = run_installer(bare_venv, **NO_SOURCES, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert "no network while installing torch==2.13.0+cpu" in error_line(done)


def test_torch_wheel_that_no_source_has_is_reported_with_the_remedy(bare_venv: Path, tmp_path: Path) -> None:
    empty = tmp_path.as_uri()
    done = run_installer(bare_venv, "--torch-index", empty, **NO_SOURCES, PIP_INDEX_URL=empty)
    message = error_line(done)
    assert "no wheel of torch==2.13.0+cpu" in message
    assert "PIP_FIND_LINKS" in message


def fake_install(venv: Path, stamp: str) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "scope-installed").write_text(stamp)


def test_second_install_returns_at_once(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    locks = [DEPLOY / "locks" / f"{name}.txt" for name in ("cpu", "dev")]
    fake_install(venv, f"cpu {installer.digest(venv, locks)}")
    start = time.monotonic()
    done = run_installer(venv)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - start < 1


def test_environment_of_the_other_extra_is_not_overwritten(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    fake_install(venv, "gpu 0")
    assert "holds the extra `gpu`, which excludes `cpu`" in error_line(run_installer(venv))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "the disk filled up"),
        (
            "Failed to resolve: Temporary failure in name resolution\nERROR: No matching distribution",
            "no network",
        ),
        ("Collecting x\nERROR: Invalid requirement: '=='\n", "pip failed while installing x: ERROR: Invalid"),
    ],
)
def test_pip_failure_becomes_one_sentence(output: str, words: str) -> None:
    assert words in str(installer.pip_failure("installing x", output))


# --- the modules


def imported_modules(path: Path) -> set[str]:
    """Names that a module imports, anywhere in it, except relative imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def test_trainer_imports_nothing_that_serves() -> None:
    trainer = [path for path in SOURCES if path.is_relative_to(ROOT / "trainer")]
    assert trainer
    for path in trainer:
        for name in imported_modules(path):
            assert name.split(".")[0] not in {"ray", "redis", "fastapi"}, f"{path} imports {name}"


def test_every_module_says_what_it_is() -> None:
    silent = [str(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


@pytest.mark.parametrize("module", ["trainer.config", "trainer.rollouts.rewards"])
def test_configuration_and_rewards_are_imported_without_torch(module: str) -> None:
    """Commands read the configuration and the generator module uses the rewards."""
    code = f"import sys, {module}; print([m for m in ('torch', 'ray', 'vllm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_secrets_are_read_from_the_environment() -> None:
    read = re.compile(r"""(?:environ(?:\.get)?|getenv)\s*[(\[]\s*["']([^"']+)["']""")
    own = {name for path in SOURCES for name in read.findall(path.read_text()) if name.startswith("SCOPE")}
    assert own <= {"SCOPE_REDIS_PASSWORD", "SCOPE_TOKEN"}


def test_under_xdist_a_file_shares_a_worker(request: pytest.FixtureRequest) -> None:
    if not hasattr(request.config, "workerinput"):
        pytest.skip("this is not an xdist worker: run `make test`")
    assert request.node.nodeid.endswith(f"@{Path(__file__).name}"), "xdist lost the group of this test"
