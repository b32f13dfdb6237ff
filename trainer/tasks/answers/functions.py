"""Whether two expressions are the same number, or the same function of their variables."""

from __future__ import annotations

from itertools import count, islice
from typing import Any

import sympy

from trainer.tasks.answers.expressions import digits_of

DIGITS = 40
"""decimal digits of a comparison, beyond those of the numbers in the expressions"""
POINTS = 8
"""points at which functions are compared"""


def same_number(one: Any, other: Any) -> bool:
    """Whether two expressions without variables are equal.

    Rational numbers are compared as such; other numbers relatively, to `DIGITS` digits more than twice those of the
    longest number in them, so that no difference is too small to be seen.
    """
    if one == other:
        return True
    if (one.is_Rational and other.is_Rational) or not (
        one.is_finite is not False and other.is_finite is not False
    ):
        return False
    if one.is_zero or other.is_zero:
        return _is_zero(other if one.is_zero else one)
    digits = DIGITS + 2 * max(digits_of(one), digits_of(other))
    return _close(one.evalf(digits), other.evalf(digits), digits)


def _is_zero(value: Any) -> bool:
    """Whether a number is zero. SymPy's proof takes long, so a value that is plainly another one goes first."""
    return bool(abs(value.evalf(DIGITS)) < sympy.Rational(10) ** -DIGITS) and bool(value.equals(0))


def same_function(one: Any, other: Any) -> bool:
    """Whether two expressions are the same real function of their variables, with the same domain.

    Compared at points on both sides of zero. Raises nothing: an expression that cannot be evaluated is another one.
    """
    if one == other:
        return True
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    digits = DIGITS + 2 * max(digits_of(one), digits_of(other))
    compared = 0
    for point in islice(_points(len(symbols)), POINTS):
        values = dict(zip(symbols, point, strict=True))
        first, second = (side.subs(values).evalf(digits) for side in (one, other))
        if (
            not (first.is_number and second.is_number)
            or first.is_finite is not True
            or second.is_finite is not True
        ):
            continue
        real = first.is_real, second.is_real
        if real[0] is not real[1]:
            return False
        if real[0] or one.has(sympy.I) or other.has(sympy.I):
            if not _close(first, second, digits):
                return False
            compared += 1
    if compared < 2:
        return bool(sympy.simplify(one - other) == 0)
    difference = one - other
    return sympy.cancel(difference) == 0 if difference.is_rational_function(*symbols) else True


def _points(variables: int) -> Any:
    """Points with different rational coordinates of both signs."""
    primes = list(sympy.primerange(2, 200))
    for number in count():
        yield [
            sympy.Rational(primes[(3 * number + 5 * at) % 40], primes[(7 * number + 3 * at + 1) % 40])
            * (-1 if (number + at) % 2 else 1)
            for at in range(variables)
        ]


def _close(one: Any, other: Any, digits: int) -> bool:
    if not (one.is_number and other.is_number):
        return False
    size = max(abs(one), abs(other))
    return bool(size == 0) or bool(abs(one - other) <= size * sympy.Rational(10) ** (15 - digits))
