"""What an answer can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.tasks.answers.units import Unit


@dataclass(frozen=True)
class Value:
    """A number or an expression with variables: `expression` is SymPy's, and exact.

    significant: the digits that a decimal states; None for what is exact. percent: `expression` percent.
    """

    expression: Any
    significant: int | None = None
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True)
class Row:
    """Items in an order, in brackets: a point, a vector, or an interval."""

    opening: str
    closing: str
    items: tuple[Answer, ...]


@dataclass(frozen=True)
class Bag:
    """Items without an order. braces: a set, in which repetition does not count; else a list."""

    items: tuple[Answer, ...]
    braces: bool


@dataclass(frozen=True)
class Named:
    """`name = item`."""

    name: str
    item: Answer


@dataclass(frozen=True)
class Relation:
    """`expression operator 0`, with the operator "=", "!=", "<" or "<="."""

    operator: str
    expression: Any


@dataclass(frozen=True)
class Region:
    """A set of real numbers, SymPy's."""

    points: Any


@dataclass(frozen=True)
class Grid:
    """A matrix: its cells row by row."""

    columns: int
    cells: tuple[Answer, ...]


Answer = Value | Row | Bag | Named | Relation | Region | Grid
