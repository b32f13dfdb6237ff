"""A single value with its unit: a currency before it, percent and units after it; counted things are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.tasks.answers.answer import Value
from trainer.tasks.answers.calculus import evaluated, has_operator
from trainer.tasks.answers.expressions import FUNCTIONS, expression
from trainer.tasks.answers.nodes import Node, Unreadable
from trainer.tasks.answers.units import CURRENCY_SIGNS, Unit, currency, read_unit
from trainer.tasks.answers.vocabulary import words

_NO_NOUNS = words(
    "or and not no maybe if for when where undefined none correct wrong true false approximately about is are guess "
    "think either neither nor"
)


def quantity(nodes: Sequence[Node]) -> Value:
    """The value that the nodes write. Raises Unreadable."""
    if nodes and nodes[0].names("-") and len(nodes) > 1 and nodes[1].names(*CURRENCY_SIGNS):
        value = quantity(nodes[1:])
        return replace(value, expression=-value.expression)
    if nodes and nodes[0].kind == "command" and nodes[0].text in CURRENCY_SIGNS:
        value = quantity(nodes[1:])
        return value if value.unit is not None else replace(value, unit=currency(nodes[0].text))
    if len(nodes) > 1 and _is_percent(nodes[-1]):
        return replace(_plain(nodes[:-1]), percent=True)
    for start in range(1, len(nodes)):
        if (unit := _unit_from(nodes, start)) is not None:
            try:
                return replace(_plain(nodes[:start]), unit=unit)
            except Unreadable:
                continue
    return _plain(_without_nouns(nodes))


def _is_percent(node: Node) -> bool:
    return node.names("%") or (
        node.kind in ("text", "name") and node.text.lower() in ("percent", "percents", "pct")
    )


def _unit_from(nodes: Sequence[Node], start: int) -> Unit | None:
    """The unit that stands from `start` to the end."""
    first = nodes[start]
    degree = first.names("circ") or (
        first.names("^") and len(first.arguments[0]) == 1 and first.arguments[0][0].names("circ")
    )
    if degree and any(node.text in FUNCTIONS for node in nodes[:start]):
        return None  # the degrees belong to the argument
    # A letter that follows a number without a space is a variable.
    named = first.kind == "text" or (first.kind == "name" and (len(first.text) > 1 or first.space))
    sign = first.kind == "command" and first.text in CURRENCY_SIGNS
    return read_unit(nodes[start:]) if degree or named or sign else None


def _without_nouns(nodes: Sequence[Node]) -> Sequence[Node]:
    """Without the things that were counted: `10 apples`."""
    end = len(nodes)
    while end > 1 and (nodes[end - 1].kind == "text" or _is_noun(nodes[end - 1])):
        said = words(nodes[end - 1].text.lower().replace("(", " ").replace(")", " "))
        if said & _NO_NOUNS or not all(word.isalpha() for word in said):
            raise Unreadable(f"{nodes[end - 1].text!r} is not understood")
        end -= 1
    return nodes[:end]


def _is_noun(node: Node) -> bool:
    return node.kind == "name" and node.space and len(node.text) > 3 and node.text.islower()


def _plain(nodes: Sequence[Node]) -> Value:
    value = evaluated(nodes) if has_operator(nodes) else expression(nodes)
    return Value(value, _significant(nodes))


def _significant(nodes: Sequence[Node]) -> int | None:
    """The digits that a decimal states, also with a sign and times a power of ten."""
    number = nodes[1:] if nodes and nodes[0].names("-", "+") else nodes
    if not number or number[0].numeral is None:
        return None
    scaled = (
        len(number) == 4
        and number[1].names("times", "cdot", "*")
        and number[2].kind == "numeral"
        and number[2].text == "10"
        and number[3].names("^")
    )
    return number[0].numeral.significant if len(number) == 1 or scaled else None
