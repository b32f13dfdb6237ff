"""Modules and classes that the code names in strings, where no import would fail, exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.repository import ROOT

ROOMS = ("services", "trainer", "tests", "benchmarks")
DOTTED = re.compile(r"(services|trainer)(\.\w+)+(:\w+)?")
EXPECTED = {
    "services.inference.worker_extension.WeightExtension",
    "services.evaluation.worker",
    "services.compare.in_process",
    "services.cli",
}
"""the search must find at least these"""


def names_in_strings() -> dict[str, Path]:
    """Strings that are a dotted name in one of our packages, or contain `-m` with one, and the files that hold them."""
    found: dict[str, Path] = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for word in [node.value, *re.findall(r"-m ([\w.]+)", node.value)]:
                    if DOTTED.fullmatch(word):
                        found.setdefault(word, path)
    return found


NAMES = names_in_strings()


def test_the_search_finds_the_known_names() -> None:
    assert NAMES.keys() >= EXPECTED


@pytest.mark.parametrize(
    "package", ["services.cli", "services.evaluation.worker", "services.compare.in_process"]
)
def test_a_module_that_is_started_by_name_has_a_main_part(package: str) -> None:
    file = file_of(f"{package}.__main__") or file_of(package)
    assert file is not None
    assert file.name == "__main__.py" or 'if __name__ == "__main__":' in file.read_text()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_module_or_a_name_in_it_exists(name: str) -> None:
    module, _, attribute = name.partition(":")
    while (file := file_of(module)) is None:
        module, _, attribute = module.rpartition(".")
        assert module, f"{NAMES[name]} names {name!r}, which is not a module or part of one"
    if attribute:
        assert attribute in defined(file), f"{NAMES[name]} names {name!r}, which {file} does not define"


def file_of(module: str) -> Path | None:
    """The file of a module or package, or None. Nothing is imported: some modules need vLLM's worker process."""
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def defined(file: Path) -> set[str]:
    """The names that a module defines or imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names
