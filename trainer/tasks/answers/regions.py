"""Sets of real numbers that answers name."""

from __future__ import annotations

from typing import Any

import sympy

from trainer.tasks.answers.answer import Answer, Bag, Named, Region, Row, Value
from trainer.tasks.answers.nodes import Unreadable


def region(answer: Answer) -> Any:
    """The set of real numbers that an answer names. Raises Unreadable if it names none."""
    if isinstance(answer, Region):
        return answer.points
    if isinstance(answer, Named):
        return region(answer.item)
    if isinstance(answer, Bag) and answer.braces:
        return sympy.FiniteSet(*(_real(item) for item in answer.items))
    if isinstance(answer, Row) and len(answer.items) == 2:
        low, high = map(_real, answer.items)
        if not (low < high or low == high):
            raise Unreadable("the ends of the interval are in the wrong order")
        return sympy.Interval(low, high, answer.opening != "[", answer.closing != "]")
    raise Unreadable("this is no set of numbers")


def _real(answer: Answer) -> Any:
    if (
        not isinstance(answer, Value)
        or not answer.expression.is_extended_real
        or answer.expression.free_symbols
    ):
        raise Unreadable("this is no real number")
    return answer.expression
