"""Every Ray cluster that this repository starts demands a token."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from tests.support.repository import ROOT

PRIVATE = "services.access.ray_token"
STARTS = {"ray.init", "Cluster", "cluster_utils.Cluster", "ray.cluster_utils.Cluster"}


def files() -> list[Path]:
    """Every text file of the repository that git knows or would add."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [ROOT / name for name in names if not name.endswith((".png", ".gz", ".safetensors"))]
    return [path for path in paths if path.is_file()]


def test_nothing_switches_rays_token_off() -> None:
    off = re.compile(r"RAY_AUTH_MODE\W{1,8}disabled|RAY_AUTH_MODE\W{1,8}mode:\s*disabled", re.IGNORECASE)
    assert [str(path) for path in files() if off.search(path.read_text(errors="replace"))] == []


def test_ray_is_started_only_by_modules_that_make_it_private() -> None:
    starts = []
    for path in files():
        if path.suffix != ".py":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        if any(isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS for node in nodes):
            imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
            starts.append((str(path.relative_to(ROOT)), PRIVATE in imported))
    assert dict(starts).keys() >= {"services/driver/cluster.py", "tests/support/local_ray.py"}
    assert [path for path, private in starts if not private] == []
