"""A number that rounds to zero is printed without a sign."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "driver", "compare", "results", "evaluation", "records")
"""the packages of `services` whose text a person reads"""
FIXED = re.compile(r"[-+<>^\d,]*\.[1-9]\d*f")
"""a format with a fixed number of decimals that keeps the sign of a negative zero: without `z`"""


def formats(path: Path) -> Iterator[str]:
    """The constant formats of a module, and constants that are used as one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FIXED.fullmatch(node.value):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_format_prints_a_negative_zero(package: str) -> None:
    modules = list((ROOT / "services" / package).rglob("*.py"))
    assert modules
    assert [found for path in modules for found in formats(path)] == []
