"""Write the lock: the version that this environment has of every distribution that the project needs.

Follows the requirements of pyproject.toml, for one engine extra and `dev`, through the metadata of the installed
distributions, so that only what is required is pinned. The lock is complete: `deploy/install.py` installs it without
letting pip resolve anything.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# vLLM requires these, but beside the CPU build of torch they fail to import, and importing transformers then fails.
OMITTED = frozenset({"torchvision", "torchaudio", "torchcodec"})


def canonical(name: str) -> str:
    """The normalised name, which package indexes compare (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements(extras: Iterable[str]) -> list[Requirement]:
    """The requirements in pyproject.toml: the base, the build system and the named extras."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stated = [*document["build-system"]["requires"], *document["project"]["dependencies"]]
    for extra in extras:
        stated += document["project"]["optional-dependencies"][extra]
    return [Requirement(text) for text in stated]


def closure(requirements: Iterable[Requirement]) -> dict[str, str]:
    """Canonical name → installed version, for the requirements and everything that they require on this platform.

    Raises:
        importlib.metadata.PackageNotFoundError: something required is not installed.
    """
    versions: dict[str, str] = {}
    visited: set[tuple[str, str]] = set()
    pending = [(requirement, extra) for requirement in requirements for extra in ("", *requirement.extras)]
    while pending:
        requirement, extra = pending.pop()
        name = canonical(requirement.name)
        if (name, extra) in visited or name in OMITTED:
            continue
        visited.add((name, extra))
        distribution = importlib.metadata.distribution(requirement.name)
        versions[name] = distribution.version
        for text in distribution.requires or ():
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                pending += [(inner, wanted) for wanted in ("", *inner.extras)]
    return versions


def pin(name: str, version: str) -> str:
    """The lock's line for one distribution. For torch with CUDA, `===` keeps pip from accepting a local CPU build."""
    return f"{name}==={version}" if name == "torch" and "+" not in version else f"{name}=={version}"


def write_lock(name: str, versions: dict[str, str], explanation: str) -> None:
    """Write deploy/locks/<name>.txt, sorted, under a comment that says what it is."""
    path = ROOT / "deploy" / "locks" / f"{name}.txt"
    lines = [f"# {explanation} Linux x86-64, Python 3.11; written by `make lock`."]
    lines += [pin(distribution, version) for distribution, version in sorted(versions.items())]
    path.write_text("\n".join(lines) + "\n")
    print(f"wrote {path.relative_to(ROOT)}: {len(versions)} pins")


def main() -> None:
    """Write deploy/locks/<extra>.txt and deploy/locks/dev.txt."""
    parser = argparse.ArgumentParser(description="Write deploy/locks/<extra>.txt and deploy/locks/dev.txt")
    parser.add_argument("--extra", choices=("cpu", "gpu"), default="cpu")
    extra = parser.parse_args().extra
    running = closure(direct_requirements((extra,)))
    developing = closure(direct_requirements(("dev",)))
    write_lock(extra, running, f"All that a running service with the {extra} engine needs.")
    write_lock(
        "dev", {k: v for k, v in developing.items() if k not in running}, "Added to it for tests and checks."
    )


if __name__ == "__main__":
    main()
