"""Check the machine before the install begins; each problem is reported in one sentence.

Part of `deploy/install.py`: standard library only, and syntax that older Pythons parse.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

NEEDED_BYTES = {"cpu": 8 << 30, "gpu": 20 << 30}
TEMPORARY_BYTES = 1 << 30


class InstallError(Exception):
    """Something that the install needs is not available; the message is one sentence, for the terminal."""


@dataclass(frozen=True)
class Machine:
    """The properties that the checks read, in one place so that a test can describe another machine."""

    python: tuple[int, ...]
    system: str
    architecture: str
    free_bytes: int
    temporary_bytes: int
    missing: tuple[str, ...]
    apt: str | None
    sudo: str | None
    root: bool

    @classmethod
    def here(cls, venv: Path) -> Machine:
        """This machine, with the free space of the file systems that hold `venv` and temporary files."""
        existing = next(folder for folder in (venv, *venv.parents) if folder.exists())
        return cls(
            python=tuple(sys.version_info[:3]),
            system=platform.system(),
            architecture=platform.machine(),
            free_bytes=shutil.disk_usage(existing).free,
            temporary_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
            missing=missing_system_packages(),
            apt=shutil.which("apt-get"),
            sudo=shutil.which("sudo"),
            root=os.geteuid() == 0,
        )


def missing_system_packages() -> tuple[str, ...]:
    """Required Debian packages whose contents this machine lacks.

    DeepSpeed and torch build helpers at first use, with the compiler and the Python headers; vLLM links libnuma.
    """
    missing = []
    if not (shutil.which("g++") or shutil.which("c++")):
        missing.append("g++")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append("python3.11-dev")
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3.11-venv")
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        missing.append("libnuma1")
    return tuple(missing)


def check_machine(machine: Machine) -> None:
    """Refuse a machine that this project cannot run on.

    Raises:
        InstallError: the message names the problem and what is supported.
    """
    if machine.system != "Linux" or machine.architecture != "x86_64":
        raise InstallError(
            f"this machine is {machine.system} on {machine.architecture}; "
            "the locked packages exist for Linux on x86_64 only"
        )
    if machine.python[:2] != (3, 11):
        raise InstallError(
            f"this is Python {'.'.join(map(str, machine.python))}, and the locked packages need 3.11: "
            "install it (Debian 12: apt-get install python3.11) and run make with PYTHON=/path/to/python3.11"
        )


def check_disk(machine: Machine, extra: str) -> None:
    """Refuse a disk that would fill up during the install.

    Raises:
        InstallError: the message gives the free and the needed space.
    """
    for what, free, needed in (
        (".venv", machine.free_bytes, NEEDED_BYTES[extra]),
        (f"temporary files ({tempfile.gettempdir()})", machine.temporary_bytes, TEMPORARY_BYTES),
    ):
        if free < needed:
            raise InstallError(
                f"{free / 2**30:.1f} GiB are free on the disk for {what}, and the install needs "
                f"{needed / 2**30:.0f} GiB: free some space and try again"
            )


def install_system_packages(machine: Machine) -> None:
    """Install the missing Debian packages, with sudo unless this is root.

    Raises:
        InstallError: they are missing and there is no way to install them, or apt-get failed.
    """
    if not machine.missing:
        return
    names = " ".join(machine.missing)
    if machine.apt is None:
        raise InstallError(
            f"missing on this machine: {names} (Debian's names); there is no apt-get to install them, "
            "so install their equivalents and try again"
        )
    if not machine.root and machine.sudo is None:
        raise InstallError(
            f"missing on this machine: {names}; you are not root and there is no sudo, "
            f"so have an administrator run `apt-get install {names}` and try again"
        )
    print(f"installing system packages: {names}", flush=True)
    prefix = [] if machine.root else [str(machine.sudo)]
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *machine.missing]):
        if subprocess.call(
            [*prefix, machine.apt, *step], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        ):
            raise InstallError(
                f"`apt-get {step[0]}` failed (its output is above) while installing {names}, "
                "which are required: install them by hand and try again"
            )


def prepare(machine: Machine, extra: str) -> None:
    """Check the machine, then install the system packages that it lacks.

    Raises:
        InstallError: something that the install needs is not available.
    """
    check_machine(machine)
    check_disk(machine, extra)
    install_system_packages(machine)
