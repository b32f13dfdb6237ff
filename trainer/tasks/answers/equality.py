"""Whether two answers are the same: exactly where both are exact, by significant digits where one is a decimal."""

from __future__ import annotations

from typing import Any

import sympy

from trainer.tasks.answers.answer import Answer, Bag, Grid, Named, Region, Relation, Row, Value
from trainer.tasks.answers.functions import same_function, same_number
from trainer.tasks.answers.nodes import Unreadable
from trainer.tasks.answers.regions import region
from trainer.tasks.answers.units import DEGREE, RADIAN, Unit

APPROXIMATES = 6
"""significant digits from which on a decimal may stand for a number that no decimal states exactly"""
MEASURED = 3
"""significant digits from which on a reference answer may be a rounded one, beside an answer that is exact"""


def equal(gold: Answer, answer: Answer) -> bool:
    """Whether `answer` is the reference answer `gold`."""
    if isinstance(gold, Named) or isinstance(answer, Named):
        return _named(gold, answer)
    gold, answer = _alone(gold), _alone(answer)
    if isinstance(gold, Region) or isinstance(answer, Region):
        return _same_region(gold, answer)
    match gold, answer:
        case Value(), Value():
            return _same_value(gold, answer)
        case Row(), Row():
            brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
            return (brackets or len(gold.items) > 2) and _in_order(gold.items, answer.items)
        case Bag(), Bag():
            return _same_bag(gold, answer)
        case (Row() as row, Bag() as bag) | (Bag() as bag, Row() as row):
            return not bag.braces and _in_order(row.items, bag.items)
        case Relation(), Relation():
            return _same_relation(gold, answer)
        case Grid(), Grid():
            return gold.columns == answer.columns and _in_order(gold.cells, answer.cells)
        case (Grid() as grid, Row() as row) | (Row() as row, Grid() as grid):
            return min(grid.columns, len(grid.cells) // grid.columns) == 1 and _in_order(
                grid.cells, row.items
            )
        case _:
            return False


def _alone(answer: Answer) -> Answer:
    """The only item of a list or set of one."""
    return answer.items[0] if isinstance(answer, Bag) and len(answer.items) == 1 else answer


def _named(gold: Answer, answer: Answer) -> bool:
    if isinstance(gold, Named) and isinstance(answer, Named):
        return gold.name == answer.name and equal(gold.item, answer.item)
    named, other = (gold, answer) if isinstance(gold, Named) else (answer, gold)
    assert isinstance(named, Named)
    if isinstance(other, Relation):
        if not isinstance(named.item, Value) or not named.name.isalpha():
            return False
        return _same_relation(Relation("=", sympy.Symbol(named.name) - named.item.expression), other)
    return equal(named.item, answer) if named is gold else equal(gold, named.item)


def _in_order(gold: tuple[Answer, ...], answer: tuple[Answer, ...]) -> bool:
    return len(gold) == len(answer) and all(map(equal, gold, answer))


def _same_bag(gold: Bag, answer: Bag) -> bool:
    if gold.braces or answer.braces:
        return all(any(equal(item, other) for other in answer.items) for item in gold.items) and all(
            any(equal(item, other) for item in gold.items) for other in answer.items
        )
    left = list(answer.items)
    for item in gold.items:
        found = next((at for at, other in enumerate(left) if equal(item, other)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _same_region(gold: Answer, answer: Answer) -> bool:
    try:
        return bool(region(gold) == region(answer))
    except Unreadable:
        return False


def _same_relation(gold: Relation, answer: Relation) -> bool:
    if gold.operator != answer.operator:
        return False
    if gold.expression == 0 or answer.expression == 0:
        return bool(gold.expression == answer.expression)
    ratio = sympy.simplify(gold.expression / answer.expression)
    ordered = gold.operator in ("<", "<=")
    return bool(ratio.is_number and (ratio.is_positive if ordered else ratio.is_nonzero))


def _same_value(gold: Value, answer: Value) -> bool:
    if gold.percent or answer.percent:
        return _same_share(gold, answer)
    if gold.unit is None and answer.unit is None:
        return _same_quantity(gold.expression, gold.significant, answer.expression, answer.significant)
    angles = {DEGREE, RADIAN, None}
    if gold.unit in angles and answer.unit in angles:
        return _same_angle(gold, answer)
    if gold.unit is not None and answer.unit is not None and gold.unit.measures != answer.unit.measures:
        return False
    # A unit that only one of them names is the one that the question asks for.
    unit_of_gold, unit_of_answer = gold.unit or answer.unit, answer.unit or gold.unit
    return _same_quantity(
        _in_base(gold.expression, unit_of_gold),
        gold.significant,
        _in_base(answer.expression, unit_of_answer),
        answer.significant,
    )


def _in_base(value: Any, unit: Unit | None) -> Any:
    assert unit is not None
    return value * sympy.Rational(unit.scale) + sympy.Rational(unit.offset)


def _same_share(gold: Value, answer: Value) -> bool:
    hundredth = sympy.Rational(1, 100)
    candidates = [(gold.expression, answer.expression)]
    if not answer.percent:  # 25 % for 25 and for 0.25
        candidates.append((gold.expression * hundredth, answer.expression))
    elif not gold.percent:
        candidates = [(gold.expression, answer.expression * hundredth)]
        if gold.expression.is_number and bool(abs(gold.expression) > 1):
            candidates.append((gold.expression, answer.expression))
    return any(_same_quantity(one, gold.significant, other, answer.significant) for one, other in candidates)


def _same_angle(gold: Value, answer: Value) -> bool:
    if gold.unit is None or answer.unit is None:
        if same_number(gold.expression, answer.expression):
            return True
        # A multiple of π without a unit is in radians.
        bare = gold.expression if gold.unit is None else answer.expression
        if not bare.has(sympy.pi):
            return _same_quantity(gold.expression, gold.significant, answer.expression, answer.significant)
    return same_number(_radians(gold), _radians(answer))


def _radians(value: Value) -> Any:
    return value.expression * sympy.pi / 180 if value.unit == DEGREE else value.expression


def _same_quantity(gold: Any, gold_digits: int | None, answer: Any, answer_digits: int | None) -> bool:
    if gold.free_symbols or answer.free_symbols:
        return same_function(gold, answer)
    if same_number(gold, answer):
        return True
    if gold_digits is None and answer_digits is None:
        return False
    least = MEASURED if answer_digits is None else APPROXIMATES
    return (
        _approximates(gold, gold_digits, least)
        and _approximates(answer, answer_digits, APPROXIMATES)
        and _agree(gold, gold_digits, answer, answer_digits)
    )


def _approximates(value: Any, digits: int | None, least: int) -> bool:
    """Whether the value may be rounded, or cannot be stated exactly as a decimal."""
    if digits is not None:
        return digits >= least
    return bool(value.is_real and value.is_finite) and not (value.is_Rational and _terminates(int(value.q)))


def _terminates(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _agree(gold: Any, gold_digits: int | None, answer: Any, answer_digits: int | None) -> bool:
    """Whether the more precise of the two, rounded or cut off to the digits that the other states, is the other."""
    rough_gold = answer_digits is None or (gold_digits is not None and gold_digits <= answer_digits)
    rough, digits, fine = (gold, gold_digits, answer) if rough_gold else (answer, answer_digits, gold)
    assert digits is not None
    if rough == 0 or fine.is_zero or bool(rough > 0) != bool(fine > 0):
        return False
    # The unit of the last stated digit of `rough`.
    last = sympy.Rational(10) ** (sympy.floor(sympy.log(abs(rough), 10)) - digits + 1)
    difference = abs(fine) - abs(rough)
    return bool(-last / 2 <= difference) and bool(
        difference < last if not rough_gold else difference <= last / 2
    )
