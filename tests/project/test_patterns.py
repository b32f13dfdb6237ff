"""Regular expressions: text from outside is matched in ASCII, where `\\d` means ten digits and not 700."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT

_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[dwsDWS]")


def unicode_classes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string with such a class, outside a call that has the flag ASCII."""
    if isinstance(tree, ast.Call) and any(
        isinstance(node, ast.Attribute) and node.attr == "ASCII" for node in ast.walk(tree)
    ):
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str) and _CLASS.search(tree.value):
        yield tree.lineno, tree.value
    for child in ast.iter_child_nodes(tree):
        yield from unicode_classes(child)


@pytest.mark.parametrize("root", ["services", "trainer/config", "trainer/checkpoint"])
def test_no_pattern_has_a_class_of_unicode(root: str) -> None:
    found = [
        (str(path.relative_to(ROOT)), *place)
        for path in sorted(Path(ROOT, root).rglob("*.py"))
        for place in unicode_classes(ast.parse(path.read_text()))
    ]
    assert found == []


def test_such_a_class_is_found() -> None:
    source = r"""
a = re.compile(r"\d+")
b = re.compile(r"\w", re.ASCII)
c: Annotated[str, Field(pattern=r"^[^\s]$")]
d = rf"{a}\D"
e = "a \\ d"
"""
    assert [line for line, _ in unicode_classes(ast.parse(source))] == [2, 4, 5]
