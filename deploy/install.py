"""Install the project into .venv and show progress, or print one sentence that says why it cannot be installed.

`make install` runs this with the system's Python: standard library only, and syntax that older Pythons parse, so that
they print that sentence too. The lock is complete, so pip resolves nothing (`--no-deps`). This is exact and fast, and
leaves out torchvision, torchaudio and torchcodec, which vLLM requires but which do not load beside the CPU build of
torch. A stamp in .venv makes the next call return immediately.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

from preflight import NEEDED_BYTES, InstallError, Machine, prepare

ROOT = Path(__file__).resolve().parent.parent
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OMITTED = ("torchvision", "torchaudio", "torchcodec")
UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Temporary failure in name resolution",
    "Network is unreachable",
)
HEARTBEAT_SECONDS = 15.0


def digest(venv: Path, locks: list[Path]) -> str:
    """Hash of everything that determines the contents of .venv."""
    state = hashlib.sha256(f"{ROOT} {venv} {platform.python_version()}".encode())
    for path in (ROOT / "pyproject.toml", *locks, *sorted(Path(__file__).parent.glob("*.py"))):
        state.update(path.read_bytes())
    return state.hexdigest()


def create_venv(venv: Path) -> None:
    """Create the virtual environment, or recreate it if an interrupted install left it without pip.

    Raises:
        InstallError: `python -m venv` failed.
    """
    python = venv / "bin" / "python"
    probe = [str(python), "-m", "pip", "--version"]
    if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return
    print(f"creating {venv}", flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise InstallError(f"`python -m venv {venv}` failed: {last_words(made.stdout + made.stderr)}")


class Heartbeat:
    """Prints the elapsed time every HEARTBEAT_SECONDS, to show that a silent step is still running."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        start = time.monotonic()
        while not self._stop.wait(HEARTBEAT_SECONDS):
            print(f"  ... {time.monotonic() - start:.0f} s", flush=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def pip(venv: Path, *arguments: str) -> tuple[bool, str]:
    """Run pip in `venv` and print what it downloads and installs. Returns whether it succeeded, and its output."""
    command = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    assert process.stdout is not None
    with process, Heartbeat():
        for line in process.stdout:
            said.append(line)
            words = line.split()
            if words[:1] == ["Downloading"] and "MB)" in line:
                name, version, *_ = words[1].rsplit("/", 1)[-1].split("-")
                print(f"  downloading {name} {version} {' '.join(words[2:4])}", flush=True)
            elif words[:2] == ["Installing", "collected"]:
                print(f"  installing {len(words) - 3} packages", flush=True)
    return process.returncode == 0, "".join(said)


def last_words(output: str) -> str:
    """The most informative line of a failed command's output: its last error line, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def pip_failure(doing: str, output: str) -> InstallError:
    """Turn the output of a failed pip into an error of one sentence."""
    if "No space left on device" in output:
        return InstallError(
            f"the disk filled up while {doing}: free some space and run this again; it continues from here"
        )
    if any(sign in output for sign in UNREACHABLE):
        return InstallError(
            f"no network while {doing}: the package index that pip is configured for cannot be reached "
            f"(`pip config list` shows it); pip's error: {last_words(output)}"
        )
    return InstallError(f"pip failed while {doing}: {last_words(output)}")


def install_torch(venv: Path, requirement: str, index: str) -> None:
    """Install the locked torch from pip's configured sources, such as a local folder of wheels, else from `index`.

    Raises:
        InstallError: neither has the wheel, or pip failed.
    """
    print(f"installing {requirement}", flush=True)
    done, output = pip(venv, "install", "--no-deps", requirement)
    if done:
        return
    if "No matching distribution" not in output or any(sign in output for sign in UNREACHABLE):
        raise pip_failure(f"installing {requirement}", output)
    print(f"  pip's configured sources do not have it; trying {index}", flush=True)
    done, output = pip(venv, "install", "--no-deps", "--extra-index-url", index, requirement)
    if not done and "No matching distribution" in output:
        raise InstallError(
            f"there is no wheel of {requirement}: pip's configured sources do not have it and {index} "
            "cannot be reached or does not have it either; put the wheel in a folder and name that folder in "
            "PIP_FIND_LINKS, or give this machine access to that index"
        )
    if not done:
        raise pip_failure(f"installing {requirement}", output)


def install(venv: Path, extra: str, torch_index: str) -> None:
    """Install what the lock lists into `venv`. Returns immediately if that has been done.

    Raises:
        InstallError: something that the install needs is not available.
    """
    locks = [ROOT / "deploy" / "locks" / f"{name}.txt" for name in (extra, "dev")]
    stamp = venv / "scope-installed"
    wanted = f"{extra} {digest(venv, locks)}"
    found = stamp.read_text() if stamp.exists() and (venv / "bin" / "python").exists() else ""
    if found == wanted:
        return
    if found and found.split()[0] != extra:
        raise InstallError(
            f"{venv} holds the extra `{found.split()[0]}`, which excludes `{extra}`: delete that folder, "
            "or install into another one with --venv"
        )
    prepare(Machine.here(venv), extra)
    create_venv(venv)
    stamp.unlink(missing_ok=True)
    lines = [line for lock in locks for line in lock.read_text().splitlines()]
    requirements = [line for line in lines if line and not line.startswith("#")]
    if extra == "cpu":
        install_torch(venv, next(line for line in requirements if line.startswith("torch==")), torch_index)
    print(f"installing the {len(requirements)} packages of deploy/locks/", flush=True)
    # Compiling modules when they are first imported, rather than all of them here, saves a minute.
    done, output = pip(venv, "install", "--no-deps", "--no-compile", *(f"-r{lock}" for lock in locks))
    if not done:
        raise pip_failure("installing the locked packages", output)
    pip(venv, "uninstall", "-y", *OMITTED)
    done, output = pip(venv, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    if not done:
        raise pip_failure("installing the project itself", output)
    print("checking that the engine loads", flush=True)
    probe = [str(venv / "bin" / "python"), "-c", "import torch, vllm"]
    loaded = subprocess.run(probe, capture_output=True, text=True, check=False)
    if loaded.returncode:
        raise InstallError(f"torch and vllm are installed but do not load: {last_words(loaded.stderr)}")
    stamp.write_text(wanted)
    print(f"installed into {venv}", flush=True)


def main() -> int:
    """Parse the arguments and install. Returns 0 on success, 2 if something that the install needs is not available."""
    parser = argparse.ArgumentParser(description="Install the project into .venv")
    parser.add_argument("--extra", choices=sorted(NEEDED_BYTES), default="cpu", help="which engine build")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="virtual environment to fill")
    parser.add_argument(
        "--torch-index",
        default=TORCH_CPU_INDEX,
        help="index to use if pip's configured sources lack the torch wheel",
    )
    arguments = parser.parse_args()
    try:
        install(arguments.venv.absolute(), arguments.extra, arguments.torch_index)
    except InstallError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
