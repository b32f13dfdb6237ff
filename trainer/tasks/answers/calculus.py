r"""Sums, products, integrals, limits and derivatives in an answer, by the parser of math-verify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from trainer.tasks.answers.nodes import Node, Unreadable

OPERATORS = {"sum", "prod", "int", "iint", "lim"}


def has_operator(nodes: Sequence[Node]) -> bool:
    """Whether there is anything that only this parser reads."""
    return any(
        node.kind == "command" and (node.text in OPERATORS or any(map(has_operator, node.arguments)))
        for node in nodes
    )


def evaluated(nodes: Sequence[Node]) -> Any:
    """The value as SymPy evaluates it. Raises Unreadable."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

    text = latex(nodes)
    try:
        found = latex2sympy(text, conversion_config=ConversionConfig(lowercase_symbols=False))
    except Exception as error:  # its grammar raises bare Exception
        raise Unreadable(f"{text!r} is not understood") from error
    if not isinstance(found, sympy.Expr):
        raise Unreadable(f"{text!r} is no value")
    return found.subs(sympy.Symbol("i"), sympy.I).doit()


def latex(nodes: Sequence[Node]) -> str:
    """The nodes as LaTeX."""
    parts = []
    for node in nodes:
        inner = "".join(f"{{{latex(argument)}}}" for argument in node.arguments)
        parts.append(f"\\{node.text}{inner} " if node.kind == "command" else f"{node.text}{inner}")
    return "".join(parts)
