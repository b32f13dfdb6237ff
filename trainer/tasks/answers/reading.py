r"""From nodes to an answer: lists, sets, intervals, equations, inequalities, matrices, quantities."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sympy

from trainer.tasks.answers.answer import Answer, Bag, Grid, Named, Region, Relation, Row, Value
from trainer.tasks.answers.equality import equal
from trainer.tasks.answers.expressions import expression, written
from trainer.tasks.answers.nodes import Node, Unreadable
from trainer.tasks.answers.quantities import quantity
from trainer.tasks.answers.regions import region

MOST_ITEMS = 64
_OPENING, _CLOSING = ("(", "[", "{", "langle"), (")", "]", "}", "rangle")
_RELATIONS = ("=", "<", ">", "le", "ge", "ne", "approx", "in", "equiv", "to")
_FLIPPED = {">": "<", "ge": "<="}
_KINDS = {"<": "<", "le": "<=", "ne": "!=", **_FLIPPED}
_SETS = {"R": sympy.S.Reals, "Z": sympy.S.Integers, "N": sympy.S.Naturals, "Q": sympy.S.Rationals}
_FUNCTION = re.compile(r"[A-Za-z]?\([a-z](,[a-z])*\)")


def structure(nodes: Sequence[Node]) -> Answer:
    """The answer that the nodes write. Raises Unreadable."""
    if len(nodes) == 1 and nodes[0].kind == "group":
        return structure(nodes[0].arguments[0])
    if not nodes:
        raise Unreadable("there is nothing")
    if len(nodes) == 1 and nodes[0].names("emptyset"):
        return Bag((), braces=True)
    parts, separators = _split(nodes, _separates)
    if len(parts) > 1:
        return _several([structure(part) for part in parts], separators)
    for name, combine in (("cup", sympy.Union), ("cap", sympy.Intersection), ("setminus", sympy.Complement)):
        parts, _ = _split(nodes, lambda node, name=name: node.names(name))
        if len(parts) > 1:
            return Region(combine(*(region(structure(part)) for part in parts)))
    parts, relations = _split(nodes, lambda node: node.names(*_RELATIONS))
    if len(parts) > 1:
        return _related(parts, [node.text for node in relations])
    if (inside := _enclosed(nodes)) is not None:
        return _bracketed(nodes[0], nodes[-1], inside)
    if len(nodes) == 1 and nodes[0].kind == "matrix":
        return Grid(nodes[0].columns, tuple(structure(cell) for cell in nodes[0].arguments))
    if len(nodes) == 1 and nodes[0].names("mathbb") and written(nodes[0].arguments[0]) in _SETS:
        return Region(_SETS[written(nodes[0].arguments[0])])
    if _has_sign(nodes):
        return Bag((structure(_signed(nodes, "+")), structure(_signed(nodes, "-"))), braces=False)
    return quantity(nodes)


def _split(
    nodes: Sequence[Node], separates: Callable[[Node], bool]
) -> tuple[list[Sequence[Node]], list[Node]]:
    """The parts between separators outside brackets, and the separators. Raises Unreadable for an empty part."""
    parts: list[list[Node]] = [[]]
    found: list[Node] = []
    depth = 0
    for node in nodes:
        depth += node.names(*_OPENING) - node.names(*_CLOSING)
        if depth == 0 and separates(node) and not node.names(*_CLOSING):
            found.append(node)
            parts.append([])
        else:
            parts[-1].append(node)
    if depth != 0:
        raise Unreadable("a bracket is not closed")
    # "1, 2, and 3"
    empty = [at for at, part in enumerate(parts[:-1]) if not part and at and _is_word(found[at])]
    for at in reversed(empty):
        del parts[at], found[at - 1]
    if len(parts) > MOST_ITEMS:
        raise Unreadable("a list has too many parts")
    if len(parts) > 1 and found and found[0].names("=", "approx") and not parts[0]:
        parts, found = parts[1:], found[1:]  # "= 5"
    if len(parts) > 1 and not all(parts):
        raise Unreadable("a list has an empty part")
    return list(parts), found


def _is_word(node: Node | None) -> bool:
    return node is not None and node.kind in ("text", "name") and node.text.lower() in ("and", "or")


def _separates(node: Node) -> bool:
    return node.names(",", ";") or _is_word(node)


def _several(items: list[Answer], separators: list[Node]) -> Answer:
    words = {node.text.lower() for node in separators if _is_word(node)}
    if all(isinstance(item, Region) for item in items) and words:
        combine = sympy.Union if words == {"or"} else sympy.Intersection
        return Region(combine(*map(region, items)))
    names = [item.name for item in items if isinstance(item, Named)]
    if items and isinstance(items[0], Named) and len(set(names)) == 1:
        # "x = 1, 2" and "x = 1 or x = 2"
        items = [item.item if isinstance(item, Named) else item for item in items]
    return Bag(tuple(inner for item in items for inner in _spread(item)), braces=False)


def _spread(item: Answer) -> tuple[Answer, ...]:
    return item.items if isinstance(item, Bag) and not item.braces else (item,)


def _enclosed(nodes: Sequence[Node]) -> Sequence[Node] | None:
    """What stands between the first and the last node if these are brackets that belong together."""
    if not (nodes[0].names(*_OPENING) and nodes[-1].names(*_CLOSING)):
        return None
    depth = 0
    for node in nodes[:-1]:
        depth += node.names(*_OPENING) - node.names(*_CLOSING)
        if depth == 0:
            return None
    return nodes[1:-1]


def _bracketed(opening: Node, closing: Node, inside: Sequence[Node]) -> Answer:
    if opening.names("{") != closing.names("}"):
        raise Unreadable("the brackets do not belong together")
    braces = opening.names("{")
    if not inside:
        if braces:
            return Bag((), braces=True)
        raise Unreadable("there is nothing in brackets")
    if braces:
        conditions, _ = _split(inside, lambda node: node.names("|", "mid", ":"))
        if len(conditions) == 2:
            return Region(region(structure(conditions[1])))
    parts, _ = _split(inside, lambda node: node.names(",", ";"))
    items = tuple(structure(part) for part in parts)
    if braces:
        return Bag(tuple(inner for item in items for inner in _spread(item)), braces=True)
    if len(items) > 1:
        left = "(" if opening.names("langle") else opening.text
        right = ")" if closing.names("rangle") else closing.text
        return Row(left, right, items)
    if len(items) == 1 and f"{opening.text}{closing.text}" in ("()", "[]"):
        return items[0]
    raise Unreadable("the brackets do not belong together")


def _related(parts: Sequence[Sequence[Node]], relations: Sequence[str]) -> Answer:
    if relations == ["in"]:
        return Region(region(structure(parts[1])))
    if relations[0] == "=" and len(parts) > 2 and _name(parts[0]) is not None:
        return Named(str(_name(parts[0])), _related(parts[1:], relations[1:]))
    if set(relations) <= {"=", "approx"}:
        return _equation(parts, relations)
    if len(parts) > 3 or not set(relations) <= set(_KINDS):
        raise Unreadable("this relation is not understood")
    return _inequality([expression(part) for part in parts], list(relations))


def _equation(parts: Sequence[Sequence[Node]], relations: Sequence[str]) -> Answer:
    name = _name(parts[0])
    if len(parts) == 2 and name is not None:
        return Named(name, structure(parts[1]))
    if len(parts) == 2 and relations[0] == "=":
        sides = [expression(part) for part in parts]
        if any(side.free_symbols for side in sides):
            if sides[1].is_Symbol and sides[1] not in sides[0].free_symbols:
                return Named(str(sides[1]), Value(sides[0]))
            return Relation("=", sides[0] - sides[1])
    exact = [structure(part) for part in _until_approximation(parts, relations)]
    if not all(equal(exact[0], other) for other in exact[1:]):
        raise Unreadable("the sides of the equation differ")
    return exact[0]


def _until_approximation(
    parts: Sequence[Sequence[Node]], relations: Sequence[str]
) -> Sequence[Sequence[Node]]:
    """The parts before the first "about"."""
    return parts[: relations.index("approx") + 1] if "approx" in relations else parts


def _name(nodes: Sequence[Node]) -> str | None:
    """The name that an equation defines: a variable, with an index or arguments."""
    text = written(nodes)
    first = nodes[0]
    if _FUNCTION.fullmatch(text):
        return text
    single = (first.kind == "name" and len(first.text) == 1) or (
        first.kind == "command" and not first.arguments
    )
    if (
        single
        and first.text not in ("infty", "pi", "e", "i")
        and (len(nodes) == 1 or (len(nodes) == 2 and nodes[1].names("_")))
    ):
        return text
    words = first.kind in ("name", "text") and len(nodes) == 1 and len(first.text) > 1
    return text if words else None


def _inequality(sides: list[Any], relations: list[str]) -> Answer:
    symbols = sorted(set().union(*(side.free_symbols for side in sides)), key=str)
    variable = symbols[0] if len(symbols) == 1 else None
    if variable is not None and all(side == variable or not side.free_symbols for side in sides):
        found = sympy.S.Reals
        for left, right, relation in zip(sides, sides[1:], relations, strict=False):
            found = sympy.Intersection(found, _half_line(left, right, relation, variable))
        return Region(found)
    if len(sides) != 2:
        raise Unreadable("this relation is not understood")
    relation = relations[0]
    left, right = sides[::-1] if relation in _FLIPPED else sides
    return Relation(_KINDS[relation], left - right)


def _half_line(left: Any, right: Any, relation: str, variable: Any) -> Any:
    if (left == variable) == (right == variable):
        raise Unreadable("this relation is not understood")
    bound = right if left == variable else left
    if not bound.is_extended_real:
        raise Unreadable("a bound is no real number")
    if relation == "ne":
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(bound))
    below = (left == variable) == (relation in ("<", "le"))
    is_open = relation in ("<", ">")
    if below:
        return sympy.Interval(-sympy.oo, bound, True, is_open)
    return sympy.Interval(bound, sympy.oo, is_open, True)


def _has_sign(nodes: Sequence[Node]) -> bool:
    return any(
        node.names("pm", "mp") or any(_has_sign(argument) for argument in node.arguments) for node in nodes
    )


def _signed(nodes: Sequence[Node], sign: str) -> tuple[Node, ...]:
    """The nodes with `sign` for each ±, and the other sign for each ∓."""
    other = "-" if sign == "+" else "+"
    return tuple(
        Node("symbol", sign if node.text == "pm" else other, space=node.space)
        if node.names("pm", "mp")
        else replace(node, arguments=tuple(_signed(argument, sign) for argument in node.arguments))
        for node in nodes
    )
