"""The import order of packages: a package imports only from lower layers."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.support.repository import ROOT

FLOORS = (
    # trainer: how a policy learns, without Ray, Redis and HTTP
    "trainer.errors trainer.roles trainer.collectives trainer.determinism trainer.pass_at_k trainer.rendezvous "
    "trainer.head",
    "trainer.files trainer.config",
    "trainer.checkpoint trainer.tasks trainer.entropy_control",
    "trainer.prompts",
    "trainer.rollouts",
    "trainer.policy trainer.regularizers",
    "trainer.loss trainer.starting_model",
    "trainer.learner",
    "trainer.in_process",
    # services: what runs that learning on a cluster
    "services.host",
    "services.redis services.kubernetes",
    "services.run services.replay",
    "services.entropy_target services.access services.records services.weights",
    "services.checks services.results services.inference services.learner services.control_plane",
    "services.online_eval services.recorded",
    "services.generation",
    "services.driver",
    "services.evaluation services.compare",
    "services.tuning",
    "services.cli",
)
"""From the lowest layer to the highest. A package imports only from layers below its own."""
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor.split()}


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of `trainer` and `services`."""
    found = {}
    for path in chain.from_iterable((ROOT / root).rglob("*.py") for root in ("trainer", "services")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def package(module: str) -> str:
    """The package, or top-level module, of `module`: its first two names."""
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[str]:
    """Our modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


ARROWS = {
    (name, imported)
    for name, path in MODULES.items()
    for imported in imports(path)
    if imported.split(".")[0] in {"trainer", "services"}
}


def test_every_package_has_its_floor() -> None:
    assert {package(name) for name in MODULES} - {"trainer", "services"} == FLOOR.keys()


def test_imports_go_down() -> None:
    """This excludes import cycles between packages, and imports of `services` by `trainer`."""
    up = sorted(
        f"{name} imports {imported}"
        for name, imported in ARROWS
        if package(name) != package(imported) and FLOOR[package(name)] <= FLOOR[package(imported)]
    )
    assert up == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """This holds within a package too."""
    below: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, imported in ARROWS:
        if imported in MODULES and imported != name:
            below[name].add(imported)
    while free := {name for name, imported in below.items() if not imported}:
        below = {name: imported - free for name, imported in below.items() if name not in free}
    assert below == {}


@pytest.mark.parametrize(("root", "most"), [("services", 3), ("trainer", 8)])
def test_few_modules_lie_loose(root: str, most: int) -> None:
    assert len(list((ROOT / root).glob("*.py"))) <= most


@pytest.mark.parametrize("root", ["services", "trainer", "tests", "deploy", "benchmarks"])
def test_no_module_is_longer_than_400_lines(root: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / root).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_the_largest_folder_of_tests_has_under_30_files() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert max(len(list(folder.glob("*.py"))) for folder in folders) < 30
