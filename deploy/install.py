"""Install the project into .venv: what is missing, once, showing progress, or one sentence saying why not.

Run by the system's Python through `make install`; standard library only, and syntax that older Pythons
parse, so that they too can be told what is wrong. The lock is complete, so pip resolves nothing
(`--no-deps`): that is exact, quick, and leaves out torchvision, torchaudio and torchcodec, which vLLM asks
for but which do not load beside the CPU build of torch. A stamp in .venv lets the next call return at once.
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
    """Fingerprint of all that determines what .venv must hold."""
    state = hashlib.sha256(f"{ROOT} {venv} {platform.python_version()}".encode())
    for path in (ROOT / "pyproject.toml", *locks, *sorted(Path(__file__).parent.glob("*.py"))):
        state.update(path.read_bytes())
    return state.hexdigest()


def create_venv(venv: Path) -> None:
    """Make the virtual environment, or make it anew when an interrupted install left it without pip.

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
    """Says how long a silent step has lasted, every HEARTBEAT_SECONDS, so that the terminal is never dead."""

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
    """Run pip in `venv`, passing on what it downloads and installs; return success and all that it said."""
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
    """The line of a failed command that says most: its last error line, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def pip_failure(doing: str, output: str) -> InstallError:
    """Turn what a failed pip said into one sentence."""
    if "No space left on device" in output:
        return InstallError(
            f"the disk filled up while {doing}: make room and call again, it goes on from here"
        )
    if any(sign in output for sign in UNREACHABLE):
        return InstallError(
            f"no network while {doing}: the package index that pip is configured for cannot be reached "
            f"(`pip config list` shows which); pip's last words: {last_words(output)}"
        )
    return InstallError(f"pip failed while {doing}: {last_words(output)}")


def install_torch(venv: Path, requirement: str, index: str) -> None:
    """Install the locked torch: from pip's own sources, a local wheel folder among them, else from `index`.

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
            "PIP_FIND_LINKS, or let this machine reach that index"
        )
    if not done:
        raise pip_failure(f"installing {requirement}", output)


def install(venv: Path, extra: str, torch_index: str) -> None:
    """Bring `venv` to the state that the lock describes; return at once when it is already there.

    Raises:
        InstallError: something needed cannot be had.
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
            "or install beside it with --venv"
        )
    prepare(Machine.here(venv), extra)
    create_venv(venv)
    stamp.unlink(missing_ok=True)
    lines = [line for lock in locks for line in lock.read_text().splitlines()]
    requirements = [line for line in lines if line and not line.startswith("#")]
    if extra == "cpu":
        install_torch(venv, next(line for line in requirements if line.startswith("torch==")), torch_index)
    print(f"installing the {len(requirements)} packages of deploy/locks/", flush=True)
    # Compiling only what gets imported, when it is imported, saves a minute of the install.
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
    """Parse the arguments and install; 0 on success, 2 when something needed cannot be had."""
    parser = argparse.ArgumentParser(description="Install the project into .venv")
    parser.add_argument("--extra", choices=sorted(NEEDED_BYTES), default="cpu", help="which engine build")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="virtual environment to fill")
    parser.add_argument(
        "--torch-index",
        default=TORCH_CPU_INDEX,
        help="index asked when pip's own sources lack the torch wheel",
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
