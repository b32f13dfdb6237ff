"""Derivations: ways to combine given numbers, two at a time, into one value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Term:
    """A number, or the combination of two terms by an operator."""

    value: int
    operator: str = ""
    """one of + - *; empty for a given number"""
    operands: tuple[Term, ...] = ()


def joined(a: Term, b: Term, limit: int) -> Iterator[Term]:
    """The combinations of two terms by each operator, with a value in 0..limit."""
    larger, smaller = (a, b) if a.value >= b.value else (b, a)
    for operator, value, operands in (
        ("+", a.value + b.value, (a, b)),
        ("-", larger.value - smaller.value, (larger, smaller)),
        ("*", a.value * b.value, (a, b)),
    ):
        if value <= limit:
            yield Term(value, operator, operands)


def derivations(terms: Sequence[Term], limit: int) -> Iterator[Term]:
    """Every way to combine all terms, two at a time, with intermediate values in 0..limit; some occur twice."""
    if len(terms) == 1:
        yield terms[0]
    for i, j in combinations(range(len(terms)), 2):
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        for term in joined(terms[i], terms[j], limit):
            yield from derivations([term, *rest], limit)


def steps(term: Term) -> list[Term]:
    """The combinations of a derivation, each after its operands."""
    if not term.operator:
        return []
    return [*(step for operand in term.operands for step in steps(operand)), term]


def expression(term: Term, *, outermost: bool = True) -> str:
    """The derivation as one expression, with every inner combination in parentheses."""
    if not term.operator:
        return str(term.value)
    left, right = (expression(operand, outermost=False) for operand in term.operands)
    text = f"{left} {term.operator} {right}"
    return text if outermost else f"( {text} )"
